"""How often somebody may ask. Counted in the broker, so that all processes count together."""

import logging
import time

import limits
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import FixedWindowRateLimiter
from redis.exceptions import RedisError

from audit_service.errors import TooManyRequests

log = logging.getLogger(__name__)

_PATIENCE_S = 1
"""A request does not wait longer to be counted."""


class Limiter:
    """Counts in the broker; while that is down, each process counts for itself."""

    def __init__(self, url: str | None) -> None:
        own = MemoryStorage()
        shared: Storage = (
            RedisStorage(url, socket_connect_timeout=_PATIENCE_S, socket_timeout=_PATIENCE_S)
            if url and url.startswith("redis")
            else own
        )
        self._shared, self._own = FixedWindowRateLimiter(shared), FixedWindowRateLimiter(own)

    def hit(self, rate: str, *who: str) -> None:
        """Count a request.

        Raises:
            TooManyRequests: there were more than the rate allows.
        """
        limit = limits.parse(rate)
        try:
            self._hit(self._shared, limit, who)
        except (RedisError, StorageError):
            log.warning("broker down, requests are counted by this process alone")
            self._hit(self._own, limit, who)

    def _hit(self, counter: FixedWindowRateLimiter, limit: limits.RateLimitItem, who: tuple[str, ...]) -> None:
        if not counter.hit(limit, *who):
            left = max(1, round(counter.get_window_stats(limit, *who).reset_time - time.time()))
            raise TooManyRequests(
                f"More than {limit.amount} requests per {limit.GRANULARITY.name}.",
                remedy=f"Wait {left} seconds, then go on more slowly.",
                retry_after_s=left,
            )
