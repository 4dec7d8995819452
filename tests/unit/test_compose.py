"""The compose files by themselves: what they promise of every service, their variables, the files they mount."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from exporter.grants import redis_grants
from exporter.sources.broker import acl_rule
from tests.conftest import ROOT
from windsock_demo.slack import Workspace

FOLDER = ROOT / "compose"
FILES = {path.name: path.read_text() for path in sorted(FOLDER.glob("*.yaml"))}
COMPOSE = yaml.safe_load(FILES["compose.yaml"])
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EXAMPLE = dict(re.findall(r"^#?([A-Z][A-Z0-9_]*)=(.*)$", (FOLDER / ".env.example").read_text(), re.MULTILINE))
COMPOSES_OWN = {"COMPOSE_FILE", "COMPOSE_PROFILES"}
"""Variables that Compose itself reads."""

ONCE = {name for name, service in SERVICES.items() if service.get("restart") == "no"}
"""Services that do something and end."""


def variables() -> dict[str, set[str]]:
    """Every variable of the compose files, with what stands behind its name each time."""
    found: dict[str, set[str]] = {}
    for text in FILES.values():
        for name, default in re.findall(r"(?<!\$)\$\{(\w+)(?::-([^}]*))?", text):
            found.setdefault(name, set()).add(default)
    return found


def mounts(service: dict[str, Any]) -> list[Path]:
    """What a service mounts from the repository; the default where a variable names it."""
    sources = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).split(":")[0] for volume in service.get("volumes", [])]
    return [FOLDER / source for source in sources if source.startswith(".")]


def test_all_services_of_the_stack_are_there() -> None:
    """PostgreSQL, Redis, every part of Airflow, Flower, what watches it, and what is optional; by profiles alone."""
    optional = {name for name, service in SERVICES.items() if "profiles" in service}
    assert optional == {"redis-exporter", "postgres-exporter", "slack"}
    airflow = {
        f"airflow-{part}" for part in ("init", "api-server", "scheduler", "dag-processor", "triggerer", "worker")
    }
    watching = {"statsd-exporter", "windsock-grants", "windsock", "prometheus", "alertmanager", "grafana", "flower"}
    assert set(SERVICES) - optional == {"postgres", "redis"} | airflow | watching


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_keeps_the_rules(name: str) -> None:
    """An exact tag by a variable, a health check, as few rights as can be, limits, logs that rotate, local ports."""
    service = SERVICES[name]
    image = re.fullmatch(r"\$\{([A-Z_]+_IMAGE):-([\w./-]+):([\w.-]+)\}", service["image"])
    assert image
    assert re.search(r"\d+\.\d+", image[3]) or image[1] == "WINDSOCK_IMAGE"
    assert not re.match(r"[\w-]+\.", image[2])  # a registry's host
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "mem_limit" in service
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert "container_name" not in service
    if name in ONCE:
        assert "healthcheck" not in service
    else:
        assert service["restart"] == "unless-stopped"
        assert {"test", "interval", "timeout", "retries"} <= service["healthcheck"].keys()
    for port in service.get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z]+_PORT:-\d+\}:\d+", port)


def test_services_start_in_order() -> None:
    """Each waits for what it needs: for the health of a service, for the end of one that ends."""

    def before(name: str) -> set[str]:
        needed = set(SERVICES[name].get("depends_on", {}))
        return needed.union(*map(before, needed))

    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if other in ONCE else "service_healthy"
            assert how == {"condition": expected}, name
    assert "postgres" in before("redis")
    assert {"redis", "statsd-exporter"} <= before("airflow-api-server")
    assert {"airflow-init", "windsock-grants"} <= before("windsock")
    assert "windsock" in before("prometheus")
    assert "prometheus" in before("alertmanager")
    assert "alertmanager" in before("grafana")
    assert "airflow-api-server" in before("flower")
    for name in SERVICES:
        if name.startswith("airflow-"):
            assert not before(name) & {"windsock", "prometheus", "alertmanager", "grafana"}, name


def test_every_variable_is_in_the_example_and_the_other_way_round() -> None:
    """With the default that it has in the files, or without one where it has none."""
    used = variables()
    assert set(EXAMPLE) - COMPOSES_OWN == set(used)
    for name, defaults in used.items():
        assert defaults <= {EXAMPLE[name], ""}, name


def test_everything_that_is_mounted_exists() -> None:
    """But for what ./init makes; and what is mounted to be read cannot be written."""
    for name, service in SERVICES.items():
        for source in mounts(service):
            assert source.exists() or source == FOLDER / "airflow/logs", name
        for volume in service.get("volumes", []):
            writable = not volume.startswith("${AIRFLOW_LOGS")
            assert not volume.startswith((".", "${")) or volume.endswith(":ro") is writable, name


def test_no_secret_is_in_a_variable() -> None:
    """They come from files: the environment of a container is shown to everybody who may look at it."""
    for text in FILES.values():
        for name, value in re.findall(r"^\s+(\w*(?:PASSWORD|SECRET|TOKEN|FERNET)\w*):(.*)$", text, re.MULTILINE):
            assert name.endswith(("_FILE", "_CMD", "_FILES")), name
            assert "/run/secrets/" in value
    named = {
        secret if isinstance(secret, str) else secret["source"]
        for each in SERVICES.values()
        for secret in each.get("secrets", [])
    }
    assert named == set(COMPOSE["secrets"])


def test_only_airflow_and_what_reads_it_reach_the_database_and_the_broker() -> None:
    """Prometheus, Alertmanager and Grafana are in another network."""
    alone = {"prometheus", "alertmanager", "grafana", "slack"}
    for name, service in SERVICES.items():
        assert ("airflow" in service["networks"]) is (name not in alone), name
    assert {name for name, service in SERVICES.items() if len(service["networks"]) == 2} == {
        "windsock",
        "statsd-exporter",
        "redis-exporter",
        "postgres-exporter",
    }


def test_all_of_airflow_has_the_same_keys() -> None:
    """JWT secret and issuer, Fernet key, and the secret key: parts that disagree refuse each other's tasks."""
    keys = [key for key in COMPOSE["x-airflow"]["environment"] if re.search("JWT|FERNET|SECRET_KEY", key)]
    assert len(keys) == 4
    for name, service in SERVICES.items():
        if service["image"] == SERVICES["airflow-worker"]["image"]:
            assert {key: service["environment"][key] for key in keys} == {
                key: COMPOSE["x-airflow"]["environment"][key] for key in keys
            }, name


def test_what_airflow_2_changes_is_a_service_of_the_stack() -> None:
    """The override names all services that run Airflow, and no others."""
    override = yaml.safe_load(FILES["airflow-2.yaml"])["services"]
    image = SERVICES["airflow-worker"]["image"]
    assert set(override) == {name for name, service in SERVICES.items() if service["image"] == image}


def test_redis_has_the_user_that_windsock_asks_for() -> None:
    """The line in the script is what `windsock grants redis` prints."""
    rule = acl_rule("windsock").removeprefix("ACL SETUSER ").replace("PASSWORD", "$(password windsock_broker_url)")
    assert acl_rule("windsock") in redis_grants("windsock")
    assert rule.replace("ACL SETUSER", "user") in (FOLDER / "redis/start.sh").read_text()


def test_the_look_alike_has_the_channel_that_init_writes() -> None:
    """The id of its channel follows from the channel's name."""
    init = (FOLDER / "init").read_text()
    (channel,) = Workspace("alerts").channels
    assert f"look_alike_channel={channel}\n" in init
    assert SERVICES["slack"]["entrypoint"][-1] == "alerts"


def test_prometheus_scrapes_services_of_the_stack() -> None:
    """Each target is a service and its port, and where it tells about Airflow it has Windsock's name for it."""
    settings = yaml.safe_load((FOLDER / "prometheus/prometheus.yml").read_text())
    name = {
        yaml.safe_load((FOLDER / f"windsock/{kind}.yml").read_text())["airflow"]["name"] for kind in ("app", "webhook")
    }
    assert len(name) == 1
    hosts = set()
    for job in settings["scrape_configs"]:
        for static in job.get("static_configs", []):
            hosts |= {target.split(":")[0] for target in static["targets"]}
            assert set(static.get("labels", {"airflow": next(iter(name))}).values()) == name
        for found in job.get("dns_sd_configs", []):
            hosts |= set(found["names"])
            assert {each["replacement"] for each in job["relabel_configs"]} == name
    assert hosts - {"127.0.0.1"} <= set(SERVICES)
    assert {Path(file).name for file in settings["rule_files"]} == {
        path.name for path in (ROOT / "alerts").glob("*.rules.yml")
    }


@pytest.mark.parametrize("runbooks", ["", "https://git.example.com/runbooks/"])
def test_links_of_alerts_lead_to_what_env_names(tmp_path: Path, runbooks: str) -> None:
    """To Grafana, and to the runbooks if they have an address; then Prometheus starts with the file's arguments."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "prometheus").symlink_to("/bin/echo")
    text = (FOLDER / "prometheus/start.sh").read_text()
    script = text.replace("/mnt/alerts", str(ROOT / "alerts")).replace("/etc/alerts", str(tmp_path / "rules"))
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "GRAFANA_URL": "http://grafana:3000/", "RUNBOOKS_URL": runbooks}
    done = subprocess.run(["sh", "-c", script, "sh", "--a", "--b"], env=environ, capture_output=True, check=True)
    assert done.stdout == b"--a --b\n"
    for file in (ROOT / "alerts").glob("*.rules.yml"):
        expected = file.read_text().replace("https://grafana.example.com", "http://grafana:3000")
        expected = expected.replace("https://windsock.example.com", "https://git.example.com")
        if not runbooks:
            expected = re.sub(r" *runbook_url:.*\n", "", expected)
        assert (tmp_path / "rules" / file.name).read_text() == expected


def test_windsock_asks_prometheus_and_alertmanager() -> None:
    """Both its files say so alike; the addresses are services of the stack, beside an Airflow that exists, too."""
    app, webhook = (yaml.safe_load((FOLDER / f"windsock/{kind}.yml").read_text()) for kind in ("app", "webhook"))
    app.pop("slack"), webhook.pop("destinations")
    assert app == webhook
    for url in map(urlsplit, [*app["alertmanagers"], app["prometheus_url"]]):
        (port,) = SERVICES[url.hostname or ""]["ports"]
        assert port.endswith(f":{url.port}")
        assert f"\n  {url.hostname}:\n" in FILES["existing.yaml"]


def test_the_watchdog_comes_to_windsock_in_time() -> None:
    """Alertmanager has a route for it, ahead of the one for alerts about Windsock, that repeats it within its time."""
    (watchdog,) = yaml.safe_load((FOLDER / "windsock/app.yml").read_text())["watchdogs"]
    routes = yaml.safe_load((ROOT / "alerts/alertmanager.yml").read_text())["route"]["routes"]
    receivers = [route["receiver"] for route in routes]
    assert receivers == ["dead-mans-switch", "windsock", "slack"]
    assert routes[0]["continue"] is True
    assert routes[1]["matchers"] == watchdog["match"]
    assert int(routes[1]["repeat_interval"].removesuffix("m")) < int(watchdog["every"].removesuffix("m"))


def test_dags_that_post_by_themselves_may() -> None:
    """What runs tasks has the token; the DAGs read it where it is, and post to a destination that both files have."""
    assert "windsock_token" in SERVICES["airflow-worker"]["secrets"]
    assert "/run/secrets/windsock_token" in SERVICES["windsock"]["environment"]["WINDSOCK_WEB__WEBHOOK_TOKEN_FILES"]
    assert "WINDSOCK_DESTINATIONS__SLACK__CHANNEL" in SERVICES["windsock"]["environment"]
    assert set(yaml.safe_load((FOLDER / "windsock/webhook.yml").read_text())["destinations"]) == {"slack"}
    for name in ("posts", "posts_on_failure"):
        text = (FOLDER / f"airflow/dags/{name}.py").read_text()
        assert "x:{Path('/run/secrets/windsock_token').read_text()}@windsock:9780/webhook/slack/slack" in text


def test_the_example_dags_are_described() -> None:
    """Each has a row in the page about the stack."""
    rows = re.findall(r"^\| `(\w+)` \| ", (ROOT / "docs/compose.md").read_text(), re.MULTILINE)
    assert {path.stem for path in (FOLDER / "airflow/dags").glob("*.py")} <= set(rows)


@pytest.mark.parametrize("page", ["guide-map.md", "guide-map.ko.md"])
def test_the_map_of_the_guide_is_complete_in_both_languages(page: str) -> None:
    """It names every service that is no part of Airflow, the images as they are, and pages that exist."""
    text = (ROOT / "docs" / page).read_text()
    shown = {name for name in SERVICES if not name.startswith(("airflow-", "windsock-"))}
    assert shown <= set(re.findall(r"`([\w-]+)`", text))
    for name in ("postgres", "redis"):
        assert EXAMPLE[f"{name.upper()}_IMAGE"] in text
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / "docs" / link).exists(), link
