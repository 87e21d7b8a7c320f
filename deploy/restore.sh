#!/bin/sh
# Fill the empty database of AUDIT_DATABASE_URL from a file that backup.sh wrote, wholly or not at all.
#
#     deploy/restore.sh FILE
#
# Then bring it to this version of the service with `audit-service migrate`. Needs psql and pg_restore as backup.sh does.
set -eu

file=${1:?name the file to restore}
url=$(echo "${AUDIT_DATABASE_URL:?set it to the empty database}" | sed 's/^postgresql+psycopg:/postgresql:/')

# Notices, such as of a role that is there already, are no news here.
export PGOPTIONS="-c client_min_messages=warning"

query() {
    "${PG_BIN:+$PG_BIN/}psql" --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 --dbname "$url" --command "$1"
}

tables=$(query "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
if [ "$tables" != 0 ]; then
    echo "The database has $tables tables already: restore into an empty one." >&2
    exit 1
fi
# A dump of one database holds the rights of roles, but not the roles: they belong to the server.
query "DO \$\$ BEGIN CREATE ROLE audit_tenant NOLOGIN NOBYPASSRLS; EXCEPTION WHEN duplicate_object THEN NULL; END \$\$"
query "GRANT audit_tenant TO CURRENT_USER"
"${PG_BIN:+$PG_BIN/}pg_restore" --no-owner --single-transaction --exit-on-error --dbname "$url" "$file"
