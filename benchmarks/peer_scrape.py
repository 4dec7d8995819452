"""Run by the peer's Python: collects N times and prints what that took as JSON. Usage: peer_scrape.py N."""

from __future__ import annotations

import json
import resource
import sys
import time

from airflow_exporter.prometheus_exporter import MetricsCollector  # type: ignore[import-not-found]


def megabytes() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


loaded = megabytes()
seconds = []
samples = 0
for _ in range(int(sys.argv[1])):
    started = time.perf_counter()
    families = list(MetricsCollector().collect())
    seconds.append(time.perf_counter() - started)
    samples = sum(len(family.samples) for family in families)
print(json.dumps({"seconds": seconds, "samples": samples, "loaded": loaded, "peak": megabytes()}))
