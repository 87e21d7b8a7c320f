#!/bin/sh
# Print the Python to build the environment with: $PYTHON, or the first of the usual names that is new enough.
set -eu

for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        command -v "$candidate"
        exit 0
    fi
done
echo "audit-service needs Python 3.11 or newer${PYTHON:+, and \$PYTHON ($PYTHON) is not}. Install one, or name it: make PYTHON=/path/to/python3" >&2
exit 1
