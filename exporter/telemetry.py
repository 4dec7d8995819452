"""What the daemon counts about itself, by direct instrumentation."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from . import __version__

Kind = TypeVar("Kind", Counter, Gauge, Histogram)


class Declaration(NamedTuple):
    """What a family is, whether or not it has a sample yet, and the collector that feeds it, or else `windsock`."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str
    collector: str = "windsock"


REGISTRY = CollectorRegistry()
DECLARATIONS: list[Declaration] = []


def _own(kind: type[Kind], name: str, meaning: str, labels: tuple[str, ...], **options: Any) -> Kind:
    DECLARATIONS.append(Declaration(name, kind.__name__.lower(), labels, meaning))
    return kind(name, meaning, labels, registry=REGISTRY, **options)


disable_created_metrics()
ProcessCollector(registry=REGISTRY)

BUILD_INFO = _own(Gauge, "windsock_build_info", "The version that runs.", ("version",))
BUILD_INFO.labels(__version__).set(1)

COLLECTOR_DURATION = _own(
    Histogram,
    "windsock_collector_duration_seconds",
    "How long a read took, failed ones too; waiting for a connection included.",
    ("collector",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
COLLECTOR_ERRORS = _own(Counter, "windsock_collector_errors_total", "Failed reads, by reason.", ("collector", "reason"))
