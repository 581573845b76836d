#!/bin/sh
# The whole suite on PostgreSQL and Redis: those of DATABASE_URL and REDIS_URL, else private ones, started here and ended again.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
started_postgres="" started_redis=""

as_owner() { # PostgreSQL refuses to run as root
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid=postgres --regid=postgres --clear-groups "$@"
    else
        "$@"
    fi
}

finish() {
    status=$?
    [ -z "$started_postgres" ] || as_owner "$bin/pg_ctl" -D "$folder/postgres" -m immediate stop >/dev/null 2>&1 || true
    [ -z "$started_redis" ] || kill "$started_redis" 2>/dev/null || true
    rm -rf "$folder"
    exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

if [ -z "${DATABASE_URL:-}" ]; then
    bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
    [ -n "$bin" ] || bin=$(dirname "$(command -v pg_ctl 2>/dev/null || echo /missing/pg_ctl)")
    if [ ! -x "$bin/initdb" ]; then
        echo "make test-services needs PostgreSQL's server (Debian: apt install postgresql), or DATABASE_URL." >&2
        exit 1
    fi
    mkdir -m 755 "$folder/postgres"
    chmod 755 "$folder"
    [ "$(id -u)" != 0 ] || chown postgres "$folder/postgres"
    as_owner "$bin/initdb" -D "$folder/postgres" -U portal --auth=trust -E UTF8 >/dev/null
    as_owner "$bin/pg_ctl" -D "$folder/postgres" -l "$folder/postgres/log" -w start \
        -o "-p 54329 -k $folder/postgres -c listen_addresses=127.0.0.1 -c max_connections=200 -c fsync=off -c full_page_writes=off" >/dev/null
    started_postgres=yes
    as_owner "$bin/createdb" -h 127.0.0.1 -p 54329 -U portal portal
    DATABASE_URL="postgres://portal@127.0.0.1:54329/portal"
fi
if [ -z "${REDIS_URL:-}" ]; then
    if ! command -v redis-server >/dev/null; then
        echo "make test-services needs redis-server (Debian: apt install redis-server), or REDIS_URL." >&2
        exit 1
    fi
    redis-server --port 63799 --bind 127.0.0.1 --save "" --appendonly no --dir "$folder" >"$folder/redis.log" 2>&1 &
    started_redis=$!
    REDIS_URL="redis://127.0.0.1:63799/0"
fi
export DATABASE_URL REDIS_URL
.venv/bin/python -m pytest -m "not browser and not long" -n 3 --dist worksteal "$@"
