"""The Celery application that `audit-service worker` runs: the queue's configuration with the tasks that answer it."""

import workers.tasks  # noqa: F401 - importing them registers them
from audit_service.dispatch import celery

app = celery()
