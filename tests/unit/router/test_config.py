"""What may be configured about alerts and Slack, what is said about what does not fit together, and no secret in it."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from exporter.config import ConfigError
from exporter.router.routing import Target, parse_matcher, route
from tests.unit.test_config import BROKER, loaded, problems

HOOK = "https://hooks.slack.com/services/T0/B0/S3cr3t-marker"
MARKER = "S3cr3t-marker"
ONE = "destinations: {ops: {channel: C1}}\nslack: {token: xoxb-1}\n"
TWO = """
slack: {token: xoxb-1}
destinations: {data: {channel: C1, fallback: ops}, ops: {webhook_url: 'https://hooks.slack.com/services/x'}}
"""


def test_a_router_alone(tmp_path: Path) -> None:
    """Neither a database nor a broker is needed; everything goes to the only destination, at the pace of Slack."""
    (tmp_path / "hook").write_text(f"{HOOK}\n")
    config = loaded(tmp_path, "destinations: {ops: {webhook_url_file: hook}}")
    ops = config.destinations["ops"]
    assert (ops.url(), ops.channel, ops.fallback, ops.pace) == (HOOK, None, None, 1.0)
    assert (config.slack.has_token, config.slack.api_url) == (False, "https://slack.com/api")
    assert (config.web.webhook_token_files, config.web.max_body, config.state.max_size) == ((), 64 * 2**20, 2**30)
    assert route(config, {}) == [Target("ops", "")]


def test_a_whole_file(tmp_path: Path) -> None:
    """Every key arrives where it belongs; paths are relative to the file."""
    for name in ("token", "first", "second"):
        (tmp_path / name).write_text(f"{name}-secret\n")
    config = loaded(
        tmp_path,
        f"""
        web: {{webhook_token_files: [first, second], max_body: 1GiB}}
        state: {{max_size: 2GiB}}
        slack: {{token_file: token, api_url: https://slack-gov.com/api/}}
        destinations:
          data-alerts: {{channel: C0123ABC, fallback: ops, pace: 2s}}
          ops: {{webhook_url: {HOOK}}}
        routes:
          - match: ['severity="critical"', 'team=~"data|ml"']
            to: [data-alerts, ops]
            mention: "<!subteam^S0ONCALL> <@U1>"
            continue: true
            reopen_window: 2h
          - to: [ops]
        templates: {{headline: "{{{{ alertname }}}}"}}
        """,
    )
    assert config.web.webhook_token_files == (tmp_path / "first", tmp_path / "second")
    assert (config.web.max_body, config.state.max_size) == (2**30, 2**31)
    assert (config.slack.bot_token(), config.slack.api_url) == ("token-secret", "https://slack-gov.com/api")
    data, ops = config.destinations["data-alerts"], config.destinations["ops"]
    assert (data.channel, data.fallback, data.pace) == ("C0123ABC", "ops", 2.0)
    assert (ops.channel, ops.url()) == (None, HOOK)
    first, last = config.routes
    assert first.match == (parse_matcher('severity="critical"'), parse_matcher('team=~"data|ml"'))
    assert (first.to, first.mention, first.goes_on) == (("data-alerts", "ops"), "<!subteam^S0ONCALL> <@U1>", True)
    assert (last.match, last.to, last.mention, last.goes_on) == ((), ("ops",), "", False)
    assert (first.reopen_window, last.reopen_window) == (7200.0, 1800.0)
    assert config.templates == {"headline": "{{ alertname }}"}
    assert MARKER not in f"{config!r} {ops}" and "secret" not in repr(config.slack)


def test_the_environment(tmp_path: Path) -> None:
    """Secrets and single settings have variables; lists and maps are YAML."""
    (tmp_path / "token").write_text("xoxb-1")
    environ = {
        "WINDSOCK_SLACK__TOKEN_FILE": str(tmp_path / "token"),
        "WINDSOCK_DESTINATIONS__OPS__CHANNEL": "C1",
        "WINDSOCK_DESTINATIONS": "{data: {channel: C2}}",
        "WINDSOCK_ROUTES": "[{match: [team=data], to: [data]}, {to: [ops]}]",
        "WINDSOCK_WEB__WEBHOOK_TOKEN_FILES": f"[{tmp_path}/token]",
        "WINDSOCK_TEMPLATES__HEADLINE": "{{ alertname }}",
    }
    config = loaded(tmp_path, "", environ)
    assert config.slack.bot_token() == "xoxb-1"
    assert {name: it.channel for name, it in config.destinations.items()} == {"ops": "C1", "data": "C2"}
    assert [route.to for route in config.routes] == [("data",), ("ops",)]
    assert config.web.webhook_token_files == (tmp_path / "token",)
    assert config.templates == {"headline": "{{ alertname }}"}


def test_the_dead_mans_switches(tmp_path: Path) -> None:
    """A watchdog has its name from its matchers, and times of its own; the address of our own sign is a secret."""
    (tmp_path / "ping").write_text(f"https://hc-ping.example.com/{MARKER}?a=b\n")
    match = "['alertname=Watchdog', 'team!~\"a|\\\\d\"']"
    config = loaded(tmp_path, f"{ONE}watchdogs: [{{match: {match}, every: 1h}}]\nheartbeat_url_file: ping")
    (watchdog,) = config.watchdogs
    assert (watchdog.every, watchdog.grace) == (3600.0, 120.0)
    assert watchdog.name == 'alertname="Watchdog", team!~"a|\\\\d"'
    assert tuple(map(parse_matcher, watchdog.name.split(", "))) == watchdog.match
    assert config.heartbeat() == f"https://hc-ping.example.com/{MARKER}?a=b"
    assert MARKER not in repr(config)


SIZE = "must be a size such as 64MiB or 1GiB"
MATCHER = 'must be one matcher, such as severity="critical" or team=~"data|ml"'
MENTION = "must be mentions as Slack writes them, such as <!subteam^S012AB3CD>, <@U012AB3CD> or <!here>"
TOKEN = "must be a token: letters, digits and signs without a space"
URL = "must be the URL of a webhook, as Slack shows it"
EITHER = "needs either a channel or a webhook_url_file"
WRONG = {
    "web: {max_body: 64}": f"web.max_body: {SIZE}",
    "web: {max_body: 0MiB}": f"web.max_body: {SIZE}",
    "state: {max_size: 1GB}": f"state.max_size: {SIZE}",
    "web: {webhook_token_files: token}": "web.webhook_token_files: must be a list",
    "web: {webhook_token_files: [no.txt]}": "web.webhook_token_files.0: cannot read no.txt: No such file or directory",
    "web: {webhook_token_files: [windsock.yml]}": f"web.webhook_token_files.0: {TOKEN}",
    "slack: {token: 'xoxb 1'}": f"slack.token: {TOKEN}",
    "slack: {token_file: no.txt}": "slack.token_file: cannot read no.txt: No such file or directory",
    "slack: {api_url: slack.com}": "slack.api_url: must be an http:// or https:// address without a password",
    "slack: {channel: C1}": "slack.channel: unknown key",
    "destinations: {ops: {pace: 2s}}": f"destinations.ops: {EITHER}",
    f"destinations: {{ops: {{channel: C1, webhook_url: {HOOK}}}}}": f"destinations.ops: {EITHER}",
    "destinations: {ops: {webhook_url: hooks.slack.com}}": f"destinations.ops.webhook_url: {URL}",
    f"destinations: {{ops: {{webhook_url: {HOOK}, pace: 1}}}}": (
        "destinations.ops.pace: a duration needs a unit: write 15s, 5m or 1h"
    ),
    "destinations: {ops: {channel: C1}}": (
        "destinations.ops.channel: needs slack.token_file; without one, use a webhook_url_file"
    ),
    f"{ONE}routes: [{{to: []}}]": "routes.0.to: must have at least 1 item after validation, not 0",
    f"{ONE}routes: [{{match: [a=b], to: [ops]}}]": (
        "routes.0.match: the last route takes everything else: it must have no match"
    ),
    f"{ONE}routes: [{{to: [data]}}]": "routes.0.to.0: there is no such destination, only ops",
    "routes: [{to: [data]}]": "routes.0.to.0: there is no such destination, only none",
    f"{ONE}routes: [{{to: [ops], drop: true}}]": "routes.0.drop: unknown key",
    f"{ONE}routes: [{{to: [ops], mention: '@oncall'}}]": f"routes.0.mention: {MENTION}",
    f"{ONE}routes: [{{to: [ops], mention: '<!here'}}]": f"routes.0.mention: {MENTION}",
    f"{ONE}routes: [{{to: [ops], reopen_window: 30}}]": (
        "routes.0.reopen_window: a duration needs a unit: write 15s, 5m or 1h"
    ),
    f"{ONE}routes: [{{match: [a], to: [ops]}}, {{to: [ops]}}]": f"routes.0.match.0: {MATCHER}",
    f"{ONE}routes: [{{match: [{{a: b}}], to: [ops]}}, {{to: [ops]}}]": f"routes.0.match.0: {MATCHER}",
    f"{ONE}routes: [{{match: [a=~(], to: [ops]}}, {{to: [ops]}}]": (
        "routes.0.match.0: the regular expression is not valid: missing ), unterminated subpattern at position 0"
    ),
    f"{ONE}watchdogs: [{{every: 5m}}]": "watchdogs.0.match: must be set",
    f"{ONE}watchdogs: [{{match: []}}]": "watchdogs.0.match: must have at least 1 item after validation, not 0",
    f"{ONE}watchdogs: [{{match: [a=b, Watchdog]}}]": f"watchdogs.0.match.1: {MATCHER}",
    f"{ONE}watchdogs: [{{match: [a=b], every: 5}}]": (
        "watchdogs.0.every: a duration needs a unit: write 15s, 5m or 1h"
    ),
    f"{ONE}heartbeat_url: hc-ping.example.com/{MARKER}": "heartbeat_url: must be an http:// or https:// address",
    f"{ONE}heartbeat_url_file: no.txt": "heartbeat_url_file: cannot read no.txt: No such file or directory",
    f"{ONE}alertmanagers: http://am:9093": "alertmanagers: must be a list",
    f"{ONE}alertmanagers: ['http://x:{MARKER}@am:9093']": (
        "alertmanagers.0: must be an http:// or https:// address without a password"
    ),
    f"{ONE}prometheus_url: prometheus": "prometheus_url: must be an http:// or https:// address without a password",
    f"{ONE}prometheus_match: [a]": f"prometheus_match.0: {MATCHER}",
    "prometheus_url: http://prometheus:9090": "prometheus_url: needs destinations",
    "watchdogs: [{match: [a=b]}]": "watchdogs: needs destinations",
    f"heartbeat_url: https://hc-ping.example.com/{MARKER}": "heartbeat_url: needs destinations",
    f"{TWO}": (
        "routes: must be set: with several destinations, the last route, without match, says where the rest goes"
    ),
}


@pytest.mark.parametrize("text", WRONG)
def test_an_error_names_its_path(tmp_path: Path, text: str) -> None:
    """One wrong value is one line, and a sentence that says what is wanted."""
    found = tuple(problem.removesuffix(" (windsock.yml)") for problem in problems(tmp_path, f"{text}\n{BROKER}"))
    assert found == (WRONG[text],)


@pytest.mark.parametrize(
    ("routes", "found"),
    [
        (["{to: [ops]}", "{match: [a=b], to: [ops]}", "{to: [ops]}"], {"1": "0", "2": "0"}),
        (["{match: [a=b], to: [ops]}", "{match: [c=d, a=b], to: [ops]}", "{to: [ops]}"], {"1": "0"}),
        (["{match: [a=b], to: [ops]}", "{match: ['a=\"b\"'], to: [ops]}", "{to: [ops]}"], {"1": "0"}),
        (["{match: [a=b], to: [ops], continue: true}", "{match: [a=b], to: [ops]}", "{to: [ops]}"], {}),
        (["{match: [a=b, c=d], to: [ops]}", "{match: [a=b], to: [ops]}", "{to: [ops]}"], {}),
        (["{to: [ops], continue: true}", "{to: [ops]}"], {}),
    ],
)
def test_a_route_that_is_never_reached(tmp_path: Path, routes: list[str], found: dict[str, str]) -> None:
    """Since an earlier one takes all that it matches, and does not go on."""
    text = f"{ONE}routes: [{', '.join(routes)}]"
    if not found:
        assert len(loaded(tmp_path, text).routes) == len(routes)
        return
    assert problems(tmp_path, text) == tuple(
        f"routes.{late}: is never reached: whatever it matches, routes.{early} matches, too (windsock.yml)"
        for late, early in found.items()
    )


@pytest.mark.parametrize(
    ("fallbacks", "found"),
    [
        ({"a": "b", "b": "c", "c": ""}, {}),
        ({"a": "x"}, {"a": "there is no such destination, only a"}),
        ({"a": "a"}, {"a": "leads back to where it starts"}),
        ({"a": "b", "b": "a", "c": "a"}, dict.fromkeys("ab", "leads back to where it starts")),
    ],
)
def test_fallbacks_end(tmp_path: Path, fallbacks: dict[str, str], found: dict[str, str]) -> None:
    """At a destination that exists, and has none."""
    entries = (f"{name}: {{channel: C1{f', fallback: {to}' if to else ''}}}" for name, to in fallbacks.items())
    text = f"slack: {{token: xoxb-1}}\ndestinations: {{{', '.join(entries)}}}\nroutes: [{{to: [a]}}]"
    if not found:
        assert loaded(tmp_path, text).destinations["a"].fallback == "b"
        return
    assert problems(tmp_path, text) == tuple(
        f"destinations.{name}.fallback: {sentence} (windsock.yml)" for name, sentence in found.items()
    )


def test_templates(tmp_path: Path) -> None:
    """One that there is not, and one that cannot be read, are errors at their path."""
    text = f"{ONE}templates: {{heading: x, headline: '{{{{ x', title: '{{{{ alertname }}}}'}}"
    heading, headline = problems(tmp_path, text)
    assert heading.startswith("templates.heading: there is no such template, but headline, ")
    assert headline.startswith("templates.headline: ") and "templates.headline: headline" not in headline


def test_all_errors_come_at_once(tmp_path: Path) -> None:
    """Those of single values first; what does not fit together is found once these are right."""
    found = problems(tmp_path, "destinations: {a: {channel: C1}, b: {channel: C1, fallback: c}}\ntemplates: {x: y}")
    assert [problem.partition(": ")[0] for problem in found] == [
        *("destinations.a.channel", "destinations.b.channel", "destinations.b.fallback", "routes", "templates.x"),
    ]


def test_secrets_are_read_anew(tmp_path: Path) -> None:
    """At each use; a file that is gone or broken is an OSError that keeps its content to itself."""
    token, hook = tmp_path / "token", tmp_path / "hook"
    token.write_text("xoxb-1")
    hook.write_text(HOOK)
    config = loaded(
        tmp_path,
        "slack: {token_file: token}\nroutes: [{to: [a]}]\n"
        "destinations: {a: {channel: C1}, b: {webhook_url_file: hook}}",
    )
    token.write_text("xoxb-2\n")
    hook.write_text(f"{HOOK}2\n")
    assert (config.slack.bot_token(), config.destinations["b"].url()) == ("xoxb-2", f"{HOOK}2")
    for content in (None, "", "\n", f"{MARKER} {MARKER}", f"ftp://{MARKER}"):
        for path, use in ((token, config.slack.bot_token), (hook, config.destinations["b"].url)):
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_text(content)
            if path == token and content == f"ftp://{MARKER}":
                continue  # a token may look like this
            with pytest.raises(OSError, match=r".") as caught:
                use()
            assert MARKER not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "text",
    [
        f"slack: {{token: '{MARKER} {MARKER}'}}",
        f"slack: {{token: [{MARKER}]}}",
        f"slack: {{token_file: 'https://{MARKER}'}}",
        f"destinations: {{a: {{webhook_url: 'x://{MARKER}'}}}}",
        f"destinations: {{a: {{webhook_url: {HOOK}, channel: {MARKER}}}}}",
        f"destinations: {{a: {HOOK}}}",
        f"destinations: {{'{HOOK}': {{}}}}",
        f"{ONE}routes: [{{to: ['{HOOK}']}}]",
        f"{ONE}routes: [{{to: [ops], mention: '{HOOK}'}}]",
        f"{ONE}routes: [{{match: ['{HOOK}'], to: [ops]}}, {{to: [ops]}}]",
        f"web: {{webhook_token_files: ['https://{MARKER}'], max_body: {MARKER}}}",
        f"{ONE}templates: {{'{HOOK}': x}}",
    ],
)
def test_no_error_repeats_a_secret(tmp_path: Path, text: str) -> None:
    """Wherever it was written by mistake."""
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    assert MARKER not in "".join((*caught.value.problems, *traceback.format_exception(caught.value)))
