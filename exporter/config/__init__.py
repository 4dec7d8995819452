"""The configuration: a file, WINDSOCK_… variables and Airflow's variables, made into one valid Config or all errors."""

from __future__ import annotations

from .document import ConfigError
from .loading import load
from .model import Config

__all__ = ["Config", "ConfigError", "load"]
