"""The cases notice when a rule is changed: of all mutants at least nine of ten."""

from __future__ import annotations

import copy
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from . import mutants
from .breaks import COUNTS_TARGETS, moves, neighbours, outages
from .cases import TESTS, firing, write
from .lint import SOURCE_DOWN
from .mutants import Mutant
from .promtool import program, run
from .ruleset import FILES, document, read

pytestmark = pytest.mark.system

LEAST = 0.9
LEAST_OF_ONE = 0.75
WORKERS = 2
CASES = {case.alert: case for case in firing()}


def of_alert(file: Path, alert: str) -> dict[str, Any]:
    """A file of rules without its other alerts; recordings stay."""
    content = document(file)
    for group in content["groups"]:
        group["rules"] = [rule for rule in group["rules"] if rule.get("alert", alert) == alert]
    content["groups"] = [group for group in content["groups"] if group["rules"]]
    return content


def places() -> list[tuple[Path, str, tuple[int, int]]]:
    """Every rule: its file, an alert that shows what it does, and its group and number beside that."""
    found = []
    for file in FILES:
        for alert in dict.fromkeys(rule.name for rule in read(file) if rule.is_alert):
            groups = of_alert(file, alert)["groups"] if alert != "WindsockWatchdog" else []
            found += [(file, alert, (g, r)) for g, group in enumerate(groups) for r in range(len(group["rules"]))]
    return found


PLACES = places()


def suites(file: Path, alert: str, folder: Path) -> list[Path]:
    """The tests that concern an alert: its cases, then outages and moves, which take longer."""
    rules, made = [folder / "rules.yml"], []
    for path in TESTS:
        content = document(path)
        if f"../{file.name}" in content["rule_files"] and path.name != "healthy.test.yml":
            for name, tests in _parts(file, alert, content["tests"]):
                made.append(write(folder / f"{name}.{path.name}", rules, tests, content["evaluation_interval"]))
    if case := CASES.get(alert):
        moved = [] if alert == COUNTS_TARGETS else moves(case) + neighbours(case)
        if alert not in SOURCE_DOWN:
            moved += outages(case, durations=(600,))
        elif alert != "WindsockAbsent":
            moved = (
                outages(case, sources=("daemon",), durations=(240,)) if case.labels["component"] != "windsock" else []
            )
        made.append(write(folder / "breaks.yml", rules, moved))
    return made


def _parts(file: Path, alert: str, tests: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Those of an alert together; those of the objectives one by one, for each takes long and one is enough."""
    if file.name == "slo.rules.yml":
        return [(str(index), [test]) for index, test in enumerate(tests)]
    own = [test for test in tests if alert in str(test)]
    return [("cases", own)] if own else []


class Bench:
    """One alert of a file, its recordings, and the tests that concern them."""

    def __init__(self, file: Path, alert: str, folder: Path) -> None:
        folder.mkdir()
        self._rules, self._content = folder / "rules.yml", of_alert(file, alert)
        self._tests, self._promtool = suites(file, alert, folder), program("installed", "promtool")

    def passes(self, place: tuple[int, int] = (0, 0), mutant: Mutant | None = None) -> bool:
        """Whether no test notices this mutant in the place of a rule; without one, whether all is well."""
        content = copy.deepcopy(self._content)
        if mutant:
            content["groups"][place[0]]["rules"][place[1]] = mutant.rule
        self._rules.write_text(yaml.safe_dump(content, sort_keys=False))
        return all(run(self._promtool, "test", "rules", test)[0] for test in self._tests)


Results = dict[str, tuple[int, list[str]]]


@pytest.fixture(scope="module")
def results() -> Results:
    """For each rule the number of its mutants, and those that survive."""
    return {}


@pytest.mark.parametrize(("file", "alert", "place"), PLACES, ids=str)
def test_mutants_of_a_rule(file: Path, alert: str, place: tuple[int, int], results: Results, tmp_path: Path) -> None:
    """Most are killed."""
    benches = [Bench(file, alert, tmp_path / str(number)) for number in range(WORKERS)]
    assert benches[0].passes()
    made = list(mutants.of(of_alert(file, alert)["groups"][place[0]]["rules"][place[1]]))

    def survivors(number: int) -> list[str]:
        bench, mine = benches[number], made[number::WORKERS]
        return [f"{mutant.name}: {mutant.change}" for mutant in mine if bench.passes(place, mutant)]

    with ThreadPoolExecutor(WORKERS) as pool:
        alive = [text for texts in pool.map(survivors, range(WORKERS)) for text in texts]
    results[f"{alert} {place}"] = len(made), sorted(alive)
    assert len(alive) <= max(1, len(made) * (1 - LEAST_OF_ONE)), alive


def test_nine_of_ten_mutants_are_killed(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    """Of all that this run has seen; the others are printed."""
    count = sum(number for number, _ in results.values())
    alive = [text for _, texts in results.values() for text in texts]
    with capsys.disabled():
        sys.stdout.write("\n".join(["", f"{count - len(alive)} of {count} mutants killed; these survive:", *alive, ""]))
    assert count - len(alive) >= count * LEAST
