"""What is declared, what is documented and what is tested are the same."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from exporter import catalogue
from exporter.collector import DatabaseCollector
from exporter.collectors import ALL
from exporter.grants import postgres_grants, redis_grants
from exporter.telemetry import Declaration

from .conftest import ROLE, ROOT

RESERVED = {"airflow", "instance", "job", "le", "quantile"}
"""Labels that Prometheus, its scrape configuration or our renderer set."""

UNBOUNDED = {"execution_date", "hostname", "logical_date", "map_index", "run_id", "task_id", "try_number"}


def test_the_metrics_page_is_generated() -> None:
    """docs/metrics.md is what `windsock metrics` prints: run `make docs`."""
    assert (ROOT / "docs/metrics.md").read_text() == catalogue.as_markdown()


def test_the_page_of_grants_is_generated() -> None:
    """docs/database-role.md has what `windsock grants` prints for both servers: run `make docs`."""
    page = (ROOT / "docs/database-role.md").read_text()
    assert postgres_grants(ALL, ROLE) in page
    assert redis_grants(ROLE) in page


def test_names_are_unique() -> None:
    """Neither two collectors nor two metrics share a name, nor what OpenMetrics leaves of it without _total."""
    names = [entry.name.removesuffix("_total") for entry in catalogue.entries()] + [collector.name for collector in ALL]
    assert [name for name, times in Counter(names).items() if times > 1] == []


@pytest.mark.parametrize("entry", catalogue.entries(), ids=lambda entry: entry.name)
def test_declarations_obey_the_rules(entry: Declaration) -> None:
    """Prefix, base units, _total for counters; labels are bounded, and nobody else's; HELP is one sentence."""
    assert re.fullmatch(r"(airflow|windsock)(_[a-z0-9]+)+", entry.name)
    assert entry.name.endswith("_total") == (entry.type == "counter")
    assert not re.search(r"_(ms|milliseconds|minutes|hours|percent|kb|mb|count|sum|bucket|created)$", entry.name)
    assert ("_timestamp" in entry.name) == entry.name.endswith("_timestamp_seconds")
    assert not (RESERVED | UNBOUNDED) & set(entry.labels)
    assert all(re.fullmatch(r"[a-z][a-z_]*", label) for label in entry.labels)
    assert re.fullmatch(r'[A-Z1][^"|\n\\]*\.', entry.help), "HELP is a sentence that needs no escape in any format"


def test_every_metric_is_shown_by_a_test() -> None:
    """Some test expects a sample of each: its name, its labels, and a value."""
    sample = r"\b{}(_bucket|_count|_sum)?({{.*}})? (\d|now|any|\+Inf)"
    texts = "\n".join(_texts())
    assert [entry.name for entry in catalogue.entries() if not re.search(sample.format(entry.name), texts)] == []


def test_no_column_is_declared_in_vain() -> None:
    """What a query declares to read is in its text: nothing more is granted."""
    variants = [
        variant
        for collector in ALL
        if isinstance(collector, DatabaseCollector)
        for select in collector.selects
        for variant in select.variants
    ]
    assert [
        (table, column)
        for variant in variants
        for table, names in variant.reads.items()
        for column in names.split()
        if not re.search(rf"\b{column}\b", variant.sql) or not re.search(rf"\b{table}\b", variant.sql)
    ] == []


def _texts() -> Iterator[str]:
    """All strings of all tests; a value that is filled in counts as 0."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in node.values)
