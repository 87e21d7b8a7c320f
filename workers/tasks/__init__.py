"""Tasks: load, call a pure function, save. Every one may be delivered twice."""

from workers.tasks import advance, judge, preview, reap, report, trace

__all__ = ["advance", "judge", "preview", "reap", "report", "trace"]
