"""What the daemon has seen of an Airflow: which DAGs get series of their own, and which Celery queues exist."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable

OTHER = "__other__"


class Dags:
    """Chooses the DAGs that are shown by name: allowed, not denied, not stale, and at most `limit` of them.

    The choice is sticky: a DAG keeps its place until it is stale or gone, so that no new name takes another's series.
    """

    def __init__(self, allow: re.Pattern[str], deny: re.Pattern[str], limit: int) -> None:
        self._allow, self._deny, self._limit = allow, deny, limit
        self._shown: set[str] = set()
        self._present: set[str] | None = None

    def update(self, active: Iterable[str]) -> None:
        """Take note of all DAGs that are neither stale nor deleted; the places of those that went are free again."""
        present = set(active)
        if present == self._present:
            return
        self._shown &= present
        self._present = None  # so that `label` gives places
        for dag_id in sorted(present):
            self.label(dag_id)
        self._present = present

    def label(self, dag_id: str) -> str | None:
        """The DAG's own id, None when the configuration denies it; `__other__` beyond the limit, or once it is gone."""
        if dag_id in self._shown:
            return dag_id
        if not self._allow.fullmatch(dag_id) or self._deny.fullmatch(dag_id):
            return None
        if self._present is not None or len(self._shown) >= self._limit:
            return OTHER
        self._shown.add(dag_id)
        return dag_id


class Queues:
    """The Celery queues to ask the broker about: configured for ever, seen ones for a day after they were last seen."""

    FORGET_AFTER = 86400.0
    LIMIT = 1000

    def __init__(self, configured: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._configured = tuple(configured)
        self._clock = clock
        self._seen: dict[str, float] = {}

    def saw(self, queues: Iterable[str]) -> None:
        """Take note of queues that the database or the broker names; those beyond the limit are ignored."""
        now = self._clock()
        for queue in queues:
            if queue in self._seen or len(self._seen) < self.LIMIT:
                self._seen[queue] = now

    def names(self) -> list[str]:
        """All queues known now, sorted."""
        now = self._clock()
        self._seen = {queue: at for queue, at in self._seen.items() if now - at < self.FORGET_AFTER}
        return sorted({*self._configured, *self._seen})
