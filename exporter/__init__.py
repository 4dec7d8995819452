"""Windsock: Apache Airflow's metadata database and Celery broker, as Prometheus metrics."""

from __future__ import annotations

__version__ = "0.1.0"
