"""Tasks: load, call a pure function, save. Every one may be delivered twice."""

from workers.tasks import advance, clock, fetch, judge, preview, reap, report, trace

__all__ = ["advance", "clock", "fetch", "judge", "preview", "reap", "report", "trace"]
