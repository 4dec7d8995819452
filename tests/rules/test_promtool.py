"""Prometheus itself accepts the rules and their cases, in the oldest version that is supported and in a new one."""

from __future__ import annotations

from pathlib import Path

import pytest

from .cases import TESTS
from .promtool import VERSIONS, failures, program, run
from .ruleset import ALERTS, FILES

pytestmark = pytest.mark.system


@pytest.mark.parametrize("version", VERSIONS)
def test_rules(version: str) -> None:
    """No error, and nothing to remark."""
    good, said = run(program(version, "promtool"), "check", "rules", "--lint=all", "--lint-fatal", *FILES)
    assert good, said
    assert said.count("SUCCESS") == len(FILES)


@pytest.mark.parametrize("version", VERSIONS)
def test_cases(version: str) -> None:
    """Each alert fires when, and says what, its cases say."""
    assert failures(program(version, "promtool"), TESTS) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_rules_can_be_loaded_together(version: str, tmp_path: Path) -> None:
    """By a Prometheus that is configured as docs/alerts.md says."""
    (tmp_path / "prometheus.yml").write_text(f"rule_files: [{ALERTS}/*.rules.yml]\n")
    good, said = run(program(version, "promtool"), "check", "config", tmp_path / "prometheus.yml")
    assert good, said
