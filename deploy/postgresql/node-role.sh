#!/bin/sh
# The node's own role and database: run once, as a superuser, with the role's password in NODE_PASSWORD. The image of
# PostgreSQL runs it when it makes its volume; elsewhere: NODE_PASSWORD=... sudo --preserve-env -u postgres ./node-role.sh
set -eu
psql --no-psqlrc --set=ON_ERROR_STOP=1 --set=password="${NODE_PASSWORD:?}" \
    --username="${POSTGRES_USER:-postgres}" <<'SQL'
CREATE ROLE node LOGIN PASSWORD :'password';
CREATE DATABASE node OWNER node;
SQL
