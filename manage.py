#!/usr/bin/env python
"""Run the portal's management commands."""

import os
import sys
from contextlib import nullcontext


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    from django.core import management

    from portal.walls import across_tenants

    # Django's own (shell, dumpdata, flush, …) are tools of whoever runs the server. The portal's commands, and the
    # server, say themselves which tenant they are about.
    tools = set(management.find_commands(management.__path__[0])) - {"runserver"}
    is_tool = len(sys.argv) > 1 and sys.argv[1] in tools
    tool = across_tenants("Django's own commands are tools of whoever runs the server")
    with tool if is_tool else nullcontext():
        management.execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
