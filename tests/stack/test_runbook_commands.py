"""What the runbooks have to paste for Airflow is what Airflow understands."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.airflow_install import AIRFLOWS, installed
from tests.conftest import lacking
from tests.rules.test_runbooks import RUNBOOKS, blocks

pytestmark = pytest.mark.system

PARSE = """
import json, sys
from airflow.cli import cli_parser
parser = cli_parser.get_parser()
for command in json.load(sys.stdin):
    parser.parse_args(command[1:])
"""


def test_airflows_commands_parse(tmp_path: Path) -> None:
    """With all their options, by the newest Airflow's own parser, which ends at the first that it does not know."""
    try:
        python = installed(AIRFLOWS[-1]) / "bin/python"
    except (OSError, RuntimeError) as error:
        lacking(f"no Airflow: {error}")
    texts = {text for path in RUNBOOKS for text in blocks(path, "sh") if text.startswith("airflow ")}
    assert len(texts) > 10
    commands = [
        shlex.split(text.replace("$(date --date='-90 days' --iso-8601)", "2026-01-01")) for text in sorted(texts)
    ]
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "false"}
    given = json.dumps(commands)
    done = subprocess.run(
        [python, "-c", PARSE], input=given, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
