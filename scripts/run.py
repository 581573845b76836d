"""`make run`: the portal alone, configured by the environment: web server and task workers on 127.0.0.1:$PORT."""

import os
import sys

from processes import (
    Supervisor,
    manage,
    relay_commands,
    require_free_port,
    wait_until_ready,
    web_command,
    worker_commands,
)


def main() -> None:
    port = int(os.environ.get("PORT", "8000"))
    require_free_port(port, variable="PORT")
    manage("migrate", "--verbosity", "0", env={})
    if os.environ.get("DEBUG", "").lower() not in {"1", "true", "yes", "on"}:
        manage("collectstatic", "--noinput", "--verbosity", "0", env={})
    with Supervisor() as supervisor:
        supervisor.start("web", web_command(port), {})
        for name, command in {**worker_commands(), **relay_commands()}.items():
            supervisor.start(name, command, {})
        wait_until_ready(f"http://127.0.0.1:{port}/healthz/live", timeout_s=60)
        sys.stdout.write(f"The portal is ready on http://127.0.0.1:{port}/ (Ctrl-C ends it)\n")
        sys.stdout.flush()
        supervisor.run()


if __name__ == "__main__":
    main()
