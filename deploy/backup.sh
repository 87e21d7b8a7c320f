#!/bin/sh
# Write everything that the service knows into one file: the whole database of AUDIT_DATABASE_URL, at one moment.
#
#     deploy/backup.sh FILE
#
# The service may go on running. Needs pg_dump of the server's version or newer, on PATH or in PG_BIN.
set -eu

file=${1:?name the file to write}
url=$(echo "${AUDIT_DATABASE_URL:?set it to the database to back up}" | sed 's/^postgresql+psycopg:/postgresql:/')
umask 077
"${PG_BIN:+$PG_BIN/}pg_dump" --format=custom --no-owner --file "$file.part" --dbname "$url"
mv "$file.part" "$file"
