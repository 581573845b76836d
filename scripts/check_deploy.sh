#!/bin/sh
# `manage.py check --deploy` as production would run it: no DEBUG, every secret given, every warning a failure.
set -eu
cd "$(dirname "$0")/.."
key=$(.venv/bin/python -c 'import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())')
env -u DEBUG \
    SECRET_KEY="$(.venv/bin/python -c 'import secrets; print(secrets.token_urlsafe(64))')" \
    FIELD_ENCRYPTION_KEYS="$key" ALLOWED_HOSTS=portal.example MEDIA_ROOT=/var/lib/portal/clips \
    DATABASE_URL="sqlite:///${TMPDIR:-/tmp}/portal-check.sqlite3" \
    .venv/bin/python manage.py check --deploy --fail-level WARNING
