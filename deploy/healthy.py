"""Whether the process of this container does its work: exit 0 if it answers, 1 if not.

python deploy/healthy.py api       the API answers
python deploy/healthy.py worker    the worker of this host answers over the broker
"""

import socket
import sys
import urllib.error
import urllib.request

from audit_service.settings import get_settings

SECONDS = 3.0


def api() -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{get_settings().port}/healthz", timeout=SECONDS):
            return True
    except (urllib.error.URLError, TimeoutError):
        return False


def worker() -> bool:
    from audit_service import dispatch  # noqa: PLC0415 - the API is asked often, and half of its time would go into this

    name = f"celery@{socket.gethostname()}"
    return bool(dispatch.celery().control.inspect(destination=[name], timeout=SECONDS).ping())


if __name__ == "__main__":
    sys.exit(0 if {"api": api, "worker": worker}[sys.argv[1]]() else 1)
