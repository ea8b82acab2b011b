"""Limits of the services."""

import time
from collections import deque
from typing import NamedTuple


class Limits(NamedTuple):
    """What the anonymous SkyServer allows, and how long a quick query of CasJobs may take.

    Attributes
    ----------
    rows : int
        Rows of one answer; others are left out without a word.
    queries_per_minute : int
        Queries in any 60 seconds.
    seconds : float
        How long one query may take.
    """

    rows: int = 500_000
    queries_per_minute: int = 60
    seconds: float = 600.0


class Throttle:
    """Counts the queries of the last minute, as the SkyServer does."""

    def __init__(self, per_minute: int):
        self.per_minute = per_minute
        self._recent = deque()

    def admit(self) -> bool:
        """Count one more query; False, without counting it, where a minute has had enough."""
        now = time.monotonic()
        while self._recent and self._recent[0] < now - 60:
            self._recent.popleft()
        if len(self._recent) >= self.per_minute:
            return False
        self._recent.append(now)
        return True
