"""How many changes of the rules the cases notice: `python -m tests.rules.mutation [ALERT...]` tries all of them."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import yaml

from . import mutants
from .breaks import COUNTS_TARGETS, moves, neighbours, outages
from .cases import TESTS, Case, firing, write
from .lint import SOURCE_DOWN
from .promtool import program, run
from .ruleset import FILES, document, read

WORKERS = 2
AT_A_TIME = 40
CASES = {case.alert: case for case in firing()}


class Change(NamedTuple):
    """A mutant in the place of a rule: its group and number beside the alert that shows what it does."""

    file: Path
    alert: str
    place: tuple[int, int]
    mutant: mutants.Mutant

    def __str__(self) -> str:
        return f"{self.alert}, {self.mutant.name}: {self.mutant.change}"

    @property
    def number(self) -> int:
        """Always the same for the same change, whatever else there is."""
        return zlib.crc32(f"{self.place} {self}".encode())


def changes() -> Iterator[Change]:
    """Every change of every rule; of the watchdog there is nothing to change."""
    for file in FILES:
        for alert in dict.fromkeys(rule.name for rule in read(file) if rule.is_alert):
            groups = of_alert(file, alert)["groups"] if alert != "WindsockWatchdog" else []
            for g, group in enumerate(groups):
                for r, rule in enumerate(group["rules"]):
                    yield from (Change(file, alert, (g, r), mutant) for mutant in mutants.of(rule))


def of_alert(file: Path, alert: str) -> dict[str, Any]:
    """A file of rules without its other alerts; recordings stay."""
    content = document(file)
    for group in content["groups"]:
        group["rules"] = [rule for rule in group["rules"] if rule.get("alert", alert) == alert]
    content["groups"] = [group for group in content["groups"] if group["rules"]]
    return content


class Bench:
    """One alert of a file, its recordings, and the tests that concern them."""

    def __init__(self, file: Path, alert: str, folder: Path) -> None:
        self._rules, self._content = folder / "rules.yml", of_alert(file, alert)
        self._tests, self._promtool = suites(file, alert, folder), program("installed", "promtool")

    def passes(self, change: Change | None = None) -> bool:
        """Whether no test notices this change; without one, whether all is well."""
        groups = [{**group, "rules": [*group["rules"]]} for group in self._content["groups"]]
        if change:
            groups[change.place[0]]["rules"][change.place[1]] = change.mutant.rule
        self._rules.write_text(yaml.safe_dump({"groups": groups}, sort_keys=False))
        return all(run(self._promtool, "test", "rules", test)[0] for test in self._tests)


def suites(file: Path, alert: str, folder: Path) -> list[Path]:
    """The tests that concern an alert: its cases, then outages and moves, which take longer."""
    rules, made = [folder / "rules.yml"], []
    for path in reversed(TESTS):  # those of days come last
        content = document(path)
        if f"../{file.name}" in content["rule_files"] and path.name != "healthy.test.yml":
            for name, tests in _parts(file, alert, content["tests"]):
                made.append(write(folder / f"{name}.{path.name}", rules, tests, content["evaluation_interval"]))
    if case := CASES.get(alert):
        made.append(write(folder / "breaks.yml", rules, _breaks(case)))
    return made


def _breaks(case: Case) -> list[dict[str, Any]]:
    if case.alert not in SOURCE_DOWN:
        moved = [] if case.alert == COUNTS_TARGETS else moves(case) + neighbours(case)
        return moved + outages(case, durations=(600,))
    return [] if case.labels["component"] == "windsock" else outages(case, sources=("daemon",), durations=(240,))


def _parts(file: Path, alert: str, tests: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Those of an alert together; those of the objectives one by one, for each takes long and one is enough."""
    if file.name == "slo.rules.yml":
        return [(str(index), [test]) for index, test in enumerate(tests)]
    own = [test for test in tests if alert in str(test)]
    return [("cases", own)] if own else []


def survivors(chosen: list[Change]) -> list[Change]:
    """Those that no test notices; an alert whose tests fail without any change is an error."""
    parts: list[list[Change]] = []
    for change in sorted(chosen, key=lambda change: change.alert):
        if not parts or parts[-1][0].alert != change.alert or len(parts[-1]) == AT_A_TIME:
            parts.append([])
        parts[-1].append(change)
    with ThreadPoolExecutor(WORKERS) as pool:
        return [change for alive in pool.map(_survivors, parts) for change in alive]


def _survivors(part: list[Change]) -> list[Change]:
    with TemporaryDirectory() as folder:
        bench = Bench(part[0].file, part[0].alert, Path(folder))
        assert bench.passes(), part[0].alert
        return [change for change in part if bench.passes(change)]


if __name__ == "__main__":
    everything = [change for change in changes() if change.alert in sys.argv[1:] or len(sys.argv) == 1]
    missed = survivors(everything)
    sys.stdout.writelines(f"{change}\n" for change in missed)
    killed = len(everything) - len(missed)
    sys.stdout.write(f"{killed} of {len(everything)} changes noticed: {killed / len(everything):.1%}\n")
