#!/bin/sh
# Print the path of a Python of at least 3.12, or say what to install. PYTHON overrides the search.
# The default python3 of many machines is older, and a pyenv shim answers "not found" for versions nobody selected,
# so every candidate is asked to run.
good() {
    "$1" -c 'import sys, venv, ensurepip, ssl, sqlite3; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1
}
set -u
shims=$(command -v pyenv python3 2>/dev/null | head -n 1)
roots="${PYENV_ROOT:-} $HOME/.pyenv ${shims:+$(dirname "$(dirname "$shims")")}"
candidates="${PYTHON:-} python3.13 python3.14 python3.12 python3 python"
for root in $roots; do
    for version in 3.13 3.14 3.12; do
        for path in "$root"/versions/"$version"*/bin/python; do
            candidates="$candidates $path"
        done
    done
done
for candidate in $candidates; do
    path=$(command -v "$candidate" 2>/dev/null) || continue
    if good "$path"; then
        "$path" -c 'import sys; print(sys.executable)'
        exit 0
    fi
done
cat >&2 <<'TEXT'
The portal needs Python 3.12 or newer (with venv and ssl), and none was found.
Install one, for example:
  Debian 13 or Ubuntu 24.04:  sudo apt install python3 python3-venv
  Fedora:                     sudo dnf install python3
  macOS:                      brew install python@3.13
  anywhere, with pyenv:       pyenv install 3.13
or name one yourself:         make PYTHON=/path/to/python3.13 demo
TEXT
exit 1
