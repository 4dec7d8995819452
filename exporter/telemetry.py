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

WEBHOOK_REQUESTS = _own(Counter, "windsock_webhook_requests_total", "Webhooks that were answered.", ("source", "code"))
WEBHOOK_ACK_SECONDS = _own(
    Histogram,
    "windsock_webhook_ack_seconds",
    "From the first byte of a webhook to its answer, once it is on disk.",
    (),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
ALERTS_RECEIVED = _own(
    Counter,
    "windsock_alerts_received_total",
    "Alerts that were stored: of webhooks, and of Airflow's database.",
    ("source", "status"),
)
DUPLICATES = _own(Counter, "windsock_duplicates_total", "Webhooks that told nothing new.", ("kind",))
OUTBOX = _own(Gauge, "windsock_outbox_messages", "Messages that wait to be sent or updated.", ("destination",))
OUTBOX_OLDEST = _own(
    Gauge,
    "windsock_outbox_oldest_timestamp_seconds",
    "Since when the oldest of these waits; absent without any.",
    ("destination",),
)
SLACK_REQUESTS = _own(Counter, "windsock_slack_requests_total", "Requests to Slack, by outcome.", ("method", "result"))
DELIVERIES = _own(
    Counter, "windsock_deliveries_total", "Messages that were settled, by outcome.", ("destination", "outcome")
)
DELIVERY_SECONDS = _own(
    Histogram,
    "windsock_delivery_seconds",
    "From the receipt of what a message tells to Slack's answer.",
    (),
    buckets=(0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0),
)
DEAD_LETTERS = _own(Gauge, "windsock_dead_letters", "Messages that were given up.", ("destination",))
CIRCUIT_OPEN = _own(
    Gauge, "windsock_circuit_open", "1 while nothing is sent there but probes, else 0.", ("destination",)
)
STORM_ACTIVE = _own(
    Gauge,
    "windsock_storm_active",
    "1 while one summary tells there of many groups of alerts, which have no messages of their own, else 0.",
    ("destination",),
)
UPSTREAM_REQUESTS = _own(
    Counter, "windsock_upstream_requests_total", "Requests to others than Slack, by outcome.", ("upstream", "result")
)
WATCHDOG_HEARD = _own(
    Gauge,
    "windsock_watchdog_last_heard_timestamp_seconds",
    "When a watchdog was last heard; time in which the daemon was down for long does not count.",
    ("watchdog",),
)
HEARTBEATS = _own(
    Counter, "windsock_heartbeats_total", "Heartbeats that arrived, failed, or were withheld.", ("result",)
)
RELOAD_SUCCESSFUL = _own(
    Gauge, "windsock_config_last_reload_successful", "1 if the newest configuration is the one in use, else 0.", ()
)
RELOAD_SUCCESS_TIME = _own(
    Gauge,
    "windsock_config_last_reload_success_timestamp_seconds",
    "When the configuration in use was read, by the daemon's clock.",
    (),
)
TEMPLATE_FAILURES = _own(
    Counter, "windsock_template_failures_total", "Texts for which the built-in one stood in.", ("slot",)
)
