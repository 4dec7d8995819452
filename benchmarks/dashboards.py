"""What the dashboards' queries cost a Prometheus that has hours of the series of a thousand DAGs."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tests.boards import BOARDS, panels
from tests.conftest import tool
from windsock_demo import servers
from windsock_demo.processes import launched

from . import machine
from .figures import Goal, Result, table

DAGS = 1_000
HOURS = 6
SCRAPE = 30
"""Seconds from one sample of a series to the next."""
BLOCK = 2 * 3600
WARM_UP = 90.0
"""Seconds until the demo has something of everything."""
CALLS = 5
SHOWN = 10
TARGET = ("up", "scrape_duration_seconds", "scrape_samples_scraped")


class Series(NamedTuple):
    """One of a page, under the name of one of many DAGs; `age` is of its value, where that is a time."""

    text: str
    value: float
    grows: bool
    age: float | None


@dataclass
class Cost:
    """A query of a panel: its answer's series and points; milliseconds of each call, and of the processor for one."""

    name: str
    series: int
    points: int
    times: list[float]
    processor: float

    @property
    def row(self) -> tuple[str, int, int, float, float, float]:
        """Its line in the table."""
        return self.name, self.series, self.points, median(self.times), max(self.times), self.processor


def measure() -> Result:
    """All of it, some ten minutes."""
    with tempfile.TemporaryDirectory() as folder:
        here, end = Path(folder), int(time.time()) // SCRAPE * SCRAPE
        found = list(_multiplied(_demo(here)))
        for start in range((end - HOURS * 3600) // BLOCK * BLOCK, end, BLOCK):
            _backfill(here, found, range(max(start, end - HOURS * 3600), min(start + BLOCK, end + 1), SCRAPE))
        with _prometheus(here) as server:
            costs = [cost for board in BOARDS for cost in _costs(*server, board, end) if cost.points]
    costs.sort(key=lambda cost: median(cost.times), reverse=True)
    goal = Goal("the heaviest query of a panel", median(costs[0].times) / 1000, 1, " s")
    version = subprocess.run([tool("prometheus"), "--version"], capture_output=True, text=True, check=True).stdout
    rows = table(
        f"query, the {SHOWN} slowest | series | points | median ms | max ms | processor ms",
        (c.row for c in costs[:SHOWN]),
    )
    boards = table(
        "board | queries | all medians, ms",
        ((board, *_all_of(board, costs)) for board in BOARDS if _all_of(board, costs)[0]),
    )
    text = f"{version.split(' (')[0]}, {len(found):,} series, {HOURS} hours, a sample each {SCRAPE} s; "
    text += f"{len(costs)} queries with an answer, {CALLS} calls each after a first one.\n\n{rows}\n{boards}"
    return Result([goal], text)


def _all_of(board: str, costs: Iterable[Cost]) -> tuple[int, float]:
    medians = [median(cost.times) for cost in costs if cost.name.startswith(f"{board}:")]
    return len(medians), sum(medians)


def _demo(folder: Path) -> str:
    """The page of the demo's daemon."""
    log = folder / "demo.log"
    with launched([sys.executable, "-m", "exporter", "demo"], log):
        time.sleep(WARM_UP)
        address = re.search(r"http://\S+/metrics", log.read_text())
        if not address:
            raise RuntimeError(log.read_text())
        with urllib.request.urlopen(address[0], timeout=10) as response:  # noqa: S310 - the demo's own
            return str(response.read().decode())


def _multiplied(page: str) -> Iterator[Series]:
    """Its series, and those of each DAG as often as makes a thousand DAGs of them."""
    now = time.time()
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    copies = math.ceil(DAGS / len({sample.labels["dag_id"] for sample in samples if "dag_id" in sample.labels}))
    target = {"job": "windsock", "instance": "windsock:9780"}
    for name in TARGET:
        yield Series(_selector(name, target), 1.0, grows=False, age=None)
    for name, labels, value, *_ in samples:
        if math.isnan(value):
            continue
        grows = name.endswith(("_total", "_count", "_sum", "_bucket"))
        age = now - value if name.endswith("_timestamp_seconds") else None
        for number in range(copies if "dag_id" in labels else 1):
            more = {"dag_id": f"{labels['dag_id']}_{number}"} if "dag_id" in labels else {}
            yield Series(_selector(name, {**labels, **more, **target}), value, grows, age)


def _selector(name: str, labels: dict[str, str]) -> str:
    return f"{name}{{{','.join(f'{label}={json.dumps(value)}' for label, value in labels.items())}}}"


def _backfill(folder: Path, found: Iterable[Series], times: range) -> None:
    """Lets promtool make a block of samples at these times: counters and times go on, gauges above 1 go up and down."""
    file = folder / "block.txt"
    with file.open("w") as lines:
        for text, value, grows, age in found:
            for time_ in times:
                turn = time_ // SCRAPE % 1_000_000
                now = time_ - age if age is not None else value * turn if grows else value + turn % 3 * (value > 1)
                lines.write(f"{text} {now} {time_}\n")
        lines.write("# EOF\n")
    command = [str(tool("promtool")), "tsdb", "create-blocks-from", "openmetrics", str(file), str(folder / "data")]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    file.unlink()


@contextmanager
def _prometheus(folder: Path) -> Iterator[tuple[int, int]]:
    """A Prometheus over these blocks, which it leaves as they are; its port and process."""
    port = servers.free_port()
    (folder / "prometheus.yml").write_text("{}")
    command = [str(tool("prometheus")), f"--config.file={folder / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={servers.HOST}:{port}"]
    command += [f"--storage.tsdb.{end}-block-duration=2h" for end in ("min", "max")]
    with launched(command, folder / "prometheus.log") as process:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://{servers.HOST}:{port}/-/ready", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield port, process.pid


def _costs(port: int, pid: int, board: str, end: int) -> Iterator[Cost]:
    """Each query of a board, as Grafana asks it for the last hours in the finest steps."""
    for panel in panels(BOARDS[board]):
        step = 300 if panel.get("interval") == "5m" else SCRAPE
        for target in panel["targets"]:
            asked: dict[str, Any] = {"query": _filled(target["expr"], step)}
            asked |= {"time": end} if target["instant"] else {"start": end - HOURS * 3600, "end": end, "step": step}
            path = "query" if target["instant"] else "query_range"
            name = f"{board}: {panel['title']}" + (f" ({target['refId']})" if len(panel["targets"]) > 1 else "")
            result, times, used = _answer(port, path, asked), [], machine.processor(pid)
            for _ in range(CALLS):
                started = time.perf_counter()
                _answer(port, path, asked)
                times.append(1000 * (time.perf_counter() - started))
            used = 1000 * (machine.processor(pid) - used) / CALLS
            yield Cost(name, len(result), sum(len(each.get("values", "1")) for each in result), times, used)


def _answer(port: int, path: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
    url = f"http://{servers.HOST}:{port}/api/v1/{path}"
    with urllib.request.urlopen(url, urllib.parse.urlencode(asked).encode(), timeout=60) as response:
        data = json.load(response)["data"]
    return list(data["result"]) if data["resultType"] != "scalar" else [{}]


def _filled(expr: str, step: int) -> str:
    values = {
        "$airflow": "demo",
        "$__rate_interval": f"{max(step + SCRAPE, 4 * SCRAPE)}s",
        "$__range": f"{HOURS}h",
        "$dag_id": "etl_orders_hourly_0",
    }
    for name, value in values.items():
        expr = expr.replace(name, value)
    return re.sub(r"\$\w+", ".+", expr)
