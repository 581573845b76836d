"""
Several management commands in one process: starting Python and Django anew for each takes longer than what they do.

`python -m tests.support.manage_in_turn` reads a JSON list of `{"arguments": […], "env": {…}}`.
"""

import json
import os
import sys

from django.core.management import ManagementUtility


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    for command in json.load(sys.stdin):
        os.environ.update(command["env"])
        ManagementUtility(["manage.py", *command["arguments"]]).execute()


if __name__ == "__main__":
    main()
