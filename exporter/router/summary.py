"""The one message that tells of a storm: how many groups of alerts there are, and what they have in common."""

from __future__ import annotations

from .incident import GREEN
from .markup import clip, code, date, duration, line
from .message import MAX_MENTION, PLAIN
from .store import Storm

_COLOR = "#F2A33A"
_TITLES = {"alertname": "Alerts", "dag_id": "DAGs", "severity": "Severity"}


def render_summary(storm: Storm, airflow: str, now: float) -> dict[str, object]:
    """What to post; its mentions are those of the routes, once each."""
    groups, firing, lasted = f"{storm.all.groups:,}", f"{storm.all.firing:,}", duration(now - storm.began)
    if storm.ends:
        color, own = ("green", "from now on") if storm.own else ("orange", "once it changes")
        head = f":large_{color}_circle: STORM OVER {line(airflow, 40)}: {groups} groups of alerts, {firing} still fire"
        told = f"It lasted {lasted}. What fires still has a message of its own {own}; the others are resolved."
    else:
        head = f":cyclone: STORM {line(airflow, 40)}: {groups} groups of alerts, {firing} fire"
        told = "They have no messages of their own while it lasts; critical ones have."
    mention = "" if storm.ends or storm.repeat else clip(storm.mention, MAX_MENTION)
    fields = [f"*{_TITLES[kind]}, firing of all*\n{_listed(storm, kind)}" for kind in storm.top if storm.top[kind]]
    marks = ":warning: possible repeat · " if storm.repeat else ""
    footer = f"{marks}since {date(storm.began)} · as of {date(now)}"
    blocks = [
        {"type": "section", "text": _text(told)},
        *([{"type": "section", "fields": [_text(field) for field in fields]}] if fields else []),
        {"type": "context", "elements": [_text(footer)]},
    ]
    return {
        "text": f"{head}  {mention}".rstrip(),
        "attachments": [{"color": GREEN if storm.ends and storm.own else _COLOR, "fallback": head, "blocks": blocks}],
        **PLAIN,
    }


def _listed(storm: Storm, kind: str) -> str:
    names = [f"{code(it.name, 60)} {it.firing:,} of {it.groups:,}" for it in storm.top[kind]]
    return "\n".join(names)


def _text(text: str) -> dict[str, object]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}
