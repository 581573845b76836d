"""PostgreSQL as this portal uses it: row-level security holds each statement to the tenants of `portal.walls`."""
