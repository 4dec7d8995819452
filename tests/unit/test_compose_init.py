"""./init writes .env and the secrets, once, and says in a sentence what is wrong."""

from __future__ import annotations

import base64
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from exporter.config.loading import load
from tests.conftest import ROOT
from windsock_demo.slack import Workspace

HOOK = "https://hooks.slack.com/services/T000/B000/abc"
EXISTING = {"DATABASE_URL": "postgresql://windsock:p@db/airflow", "BROKER_URL": "redis://windsock:p@redis/0"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of compose/, in which nothing was made yet."""
    made = tmp_path / "compose"
    shutil.copytree(ROOT / "compose", made, ignore=shutil.ignore_patterns(".env", "secrets", "logs"))
    return made


def init(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Its exit code, and what it said on stderr; nobody answers questions."""
    done = subprocess.run(
        [folder / "init", *arguments],
        env={"PATH": "/usr/bin:/bin", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def env(folder: Path) -> dict[str, str]:
    """What is set in .env."""
    return dict(line.split("=", 1) for line in (folder / ".env").read_text().splitlines() if line and line[0] != "#")


def test_a_webhook(folder: Path) -> None:
    """It is a secret, Windsock is told to use it, and all that compose.yaml needs is there."""
    assert init(folder, SLACK_WEBHOOK_URL=HOOK) == (0, "")
    assert (folder / "secrets/slack_webhook").read_text() == HOOK
    assert (env(folder)["WINDSOCK_CONFIG"], env(folder)["COMPOSE_PROFILES"]) == ("webhook.yml", "")
    named = re.findall(r"file: ./secrets/(\w+)", (folder / "compose.yaml").read_text())
    assert set(named) == {path.name for path in (folder / "secrets").iterdir()}
    assert init(folder, "--check") == (0, "")


def test_an_app(folder: Path) -> None:
    """Its token and channel; that alerts about Windsock itself need a webhook is said on stdout, for it is no error."""
    assert init(folder, SLACK_TOKEN="xoxb-1-a", SLACK_CHANNEL="#data alerts".replace(" ", "-")) == (0, "")
    assert (folder / "secrets/slack_token").read_text() == "xoxb-1-a"
    assert (env(folder)["WINDSOCK_CONFIG"], env(folder)["SLACK_CHANNEL"]) == ("app.yml", '"#data-alerts"')


def test_the_look_alike(folder: Path) -> None:
    """Its profile is on, and the webhook for Alertmanager is that of a workspace with this token."""
    assert init(folder, "--look-alike") == (0, "")
    assert (env(folder)["COMPOSE_PROFILES"], env(folder)["SLACK_API_URL"]) == ("slack", "http://slack:9781/api")
    workspace = Workspace("alerts", token=(folder / "secrets/slack_token").read_text())
    workspace.url = "http://slack:9781"
    assert (folder / "secrets/slack_webhook").read_text() == workspace.webhook_url("alerts")


def test_an_airflow_that_exists(folder: Path) -> None:
    """Its addresses are secrets, nothing of Airflow's own is made, and .env names the other file."""
    assert init(folder, "--existing", SLACK_WEBHOOK_URL=HOOK, **EXISTING) == (0, "")
    assert env(folder)["COMPOSE_FILE"] == "existing.yaml"
    assert (folder / "secrets/windsock_database_url").read_text() == EXISTING["DATABASE_URL"]
    named = re.findall(r"file: ./secrets/(\w+)", (folder / "existing.yaml").read_text())
    assert set(named) == {path.name for path in (folder / "secrets").iterdir()}
    assert init(folder, "--check") == (0, "")


def test_an_airflow_that_exists_without_celery(folder: Path) -> None:
    """An empty address of the broker is an answer, and .env says that there is none."""
    assert init(folder, "--existing", SLACK_WEBHOOK_URL=HOOK, **EXISTING | {"BROKER_URL": ""}) == (0, "")
    assert (env(folder)["COMPOSE_FILE"], env(folder)["BROKER_URL_FILE"]) == ("existing.yaml", "")
    assert init(folder, "--check") == (0, "")


def test_secrets_are_new_each_time_and_for_nobody_else(folder: Path, tmp_path: Path) -> None:
    """No two files and no two stacks share one; the folder is closed, for containers must be able to read the files."""
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    assert init(folder, "--look-alike") == init(other, "--look-alike") == (0, "")
    texts = [path.read_text() for made in (folder, other) for path in (made / "secrets").iterdir()]
    found = [secret for text in texts for secret in re.findall(r"[0-9a-f]{48}", text)]
    assert len(found) - len(set(found)) == 2  # the role's password stands in its URL, too
    assert len(base64.urlsafe_b64decode((folder / "secrets/fernet_key").read_text())) == 32
    assert stat.S_IMODE((folder / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder / "secrets").iterdir()} == {0o444}


@pytest.mark.parametrize("there", [".env", "secrets"])
def test_nothing_is_overwritten(folder: Path, there: str) -> None:
    """Neither .env nor the secrets."""
    (folder / there).touch()
    code, said = init(folder, "--look-alike")
    assert (code, (folder / there).read_bytes()) == (1, b"")
    assert "nothing is overwritten" in said


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ([], {}, "nobody to ask for Slack's incoming webhook"),
        ([], {"SLACK_WEBHOOK_URL": "hooks.slack.com/x"}, "the webhook must be an address"),
        ([], {"SLACK_WEBHOOK_URL": f"{HOOK}\nx"}, "the webhook must be an address"),
        ([], {"SLACK_TOKEN": "abc", "SLACK_CHANNEL": "C01"}, "the token must be that of an app's bot"),
        ([], {"SLACK_TOKEN": "xoxb-1-a"}, "nobody to ask for the id of the channel"),
        ([], {"SLACK_TOKEN": "xoxb-1-a", "SLACK_CHANNEL": "a|b"}, "the channel must be an id"),
        (["--existing"], {"SLACK_WEBHOOK_URL": HOOK, "DATABASE_URL": "mysql://db"}, "the database must be an address"),
        (["--existing"], {"SLACK_WEBHOOK_URL": HOOK} | EXISTING | {"BROKER_URL": "amqp://b"}, "the broker must be"),
        (["--existing"], {"SLACK_WEBHOOK_URL": HOOK, "DATABASE_URL": EXISTING["DATABASE_URL"]}, "to ask for Celery's"),
        (["--verbose"], {}, "what is --verbose?"),
        (["--check"], {}, "there is no .env"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_left(
    folder: Path, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    """One sentence, without the secret, and neither a file nor a part of one."""
    code, output = init(folder, *arguments, **environment)
    assert code == 1
    assert said in output
    assert not any(secret in output for secret in ("xoxb-1-a", "hooks.slack.com/x"))
    left = {path.name for path in folder.iterdir()}
    assert not {".env", "secrets"} & left
    assert not [name for name in left if name.endswith((".part", ".new"))]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("AIRFLOW_PORT=80800", "AIRFLOW_PORT must be a port"),
        ("AIRFLOW_UID=me", "AIRFLOW_UID must be the number of a user"),
        ("POSTGRES_IMAGE=postgres", "POSTGRES_IMAGE must be an image with its tag"),
        ("GRAFANA_URL=grafana.example.com", "GRAFANA_URL must be an address"),
        ("PROMETHEUS_RETENTION=1 month", "PROMETHEUS_RETENTION must be a duration"),
        ("WINDSOCK_CONFIG=mine.yml", "WINDSOCK_CONFIG must be a file in windsock/"),
        ("AIRFLOW_DAGS=./nowhere", "AIRFLOW_DAGS must be a folder"),
        ("AIRFLOW_WORKER_CONCURRENCY=0", "AIRFLOW_WORKER_CONCURRENCY must be a number, 1 or more"),
        ("AIRFLOW_IMGE=x", "AIRFLOW_IMGE is no variable of compose.yaml"),
    ],
)
def test_bad_values_are_found(folder: Path, line: str, said: str) -> None:
    """--check names the variable and what it must be."""
    assert init(folder, "--look-alike") == (0, "")
    with (folder / ".env").open("a") as file:
        file.write(f"{line}\n")
    code, output = init(folder, "--check")
    assert code == 1
    assert said in output


def test_a_missing_secret_is_found(folder: Path) -> None:
    """Compose would only say that a file cannot be mounted."""
    assert init(folder, "--look-alike") == (0, "")
    (folder / "secrets/jwt_secret").unlink()
    assert init(folder, "--check") == (1, "./secrets/jwt_secret is missing, or empty\n")


@pytest.mark.parametrize("kind", ["webhook", "app"])
def test_windsock_accepts_what_the_stack_gives_it(folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file of either kind is valid with the variables that compose.yaml sets and the secrets that init wrote."""
    given = {"SLACK_WEBHOOK_URL": HOOK} if kind == "webhook" else {"SLACK_TOKEN": "xoxb-1-a", "SLACK_CHANNEL": "C01"}
    assert init(folder, **given) == (0, "")
    secrets = folder / "secrets"
    settings = (folder / f"windsock/{kind}.yml").read_text().replace("/run/secrets", str(secrets))
    (folder / "windsock.yml").write_text(settings)
    environ = {
        "WINDSOCK_AIRFLOW__DATABASE_URL_FILE": str(secrets / "windsock_database_url"),
        "WINDSOCK_CELERY__BROKER_URL_FILE": str(secrets / "windsock_broker_url"),
        "WINDSOCK_DESTINATIONS__SLACK__CHANNEL": env(folder)["SLACK_CHANNEL"].strip('"'),
        "WINDSOCK_WEB__WEBHOOK_TOKEN_FILES": f"[{secrets / 'windsock_token'}]",
    }
    config = load(folder / "windsock.yml", environ, collectors=())
    assert list(config.destinations) == ["slack"]
    assert config.destinations["slack"].channel == (None if kind == "webhook" else "C01")
