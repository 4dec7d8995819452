"""The outward edges: Airflow's metadata database and its Celery broker."""

from __future__ import annotations

from dataclasses import dataclass

from .broker import Broker
from .database import Database
from .errors import REASONS, Reason, SourceError

__all__ = ["REASONS", "Broker", "Database", "Reason", "SourceError", "Sources"]


@dataclass(frozen=True, slots=True)
class Sources:
    """What is configured to be read; None for what is not."""

    database: Database | None
    broker: Broker | None
