"""A group of alerts as a Slack message: every limit holds by construction, and no data can mention anybody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from . import failed_tasks, links
from .incident import ABOUT, NAMES, SCRAPE, STANDINGS, Facts, Incident, first, gather, ordered
from .limits import violations
from .markup import clip, code, date, duration, length, line, link, prose, utc
from .model import Alert, Snapshot
from .routing import Target
from .said import worded
from .templates import SLOTS, Templates

__all__ = ["MAX_MENTION", "PLAIN", "Incident", "Level", "preview", "render", "subject", "summary_of"]

Level = Literal["full", "compact", "plain"]
Block = dict[str, object]

MAX_MENTION, MAX_PLAIN = 300, 1498
PLAIN = {
    "parse": "none",  # or an update makes links and mentions out of plain text
    "link_names": False,
    "unfurl_links": False,
    "unfurl_media": False,
}
"""Slack adds nothing to a text."""
_BUILT_IN = Templates({})
_WORDS: dict[Level, int | None] = {"full": None, "compact": 3500, "plain": MAX_PLAIN - MAX_MENTION}


def render(incident: Incident, templates: Templates, level: Level) -> dict[str, object]:
    """What to post; the simpler levels are for what Slack refused: no template, few blocks, and at last none."""
    if incident.snapshot.said:
        return worded(incident.snapshot.said, [*_marks(incident)], _WORDS[level])
    facts = gather(incident)
    templates = templates if level == "full" else _BUILT_IN
    headline = _slot(templates, "headline", facts, _headline(facts))
    blocks: list[Block] = []
    if level == "full":
        blocks = [*_blocks(incident, facts, templates, headline)]
    elif level == "compact":
        blocks = [*_section("\n".join(_outline(incident, facts, headline)))]
    told = headline
    if level == "plain":
        told = clip("\n".join((headline, *_outline(incident, facts, headline))), MAX_PLAIN - MAX_MENTION)
    mention = "" if facts.over or incident.snapshot.standing else clip(incident.mention.strip(), MAX_MENTION)
    return {
        "text": f"{told}  {mention}".rstrip(),
        "attachments": [{"color": facts.color, "fallback": headline, "blocks": blocks}] if blocks else [],
        **PLAIN,
    }


def preview(
    snapshot: Snapshot, targets: Iterable[Target], templates: Templates, airflow: str, base_url: str | None
) -> list[dict[str, object]]:
    """For each destination what would be posted first, and what of Slack's limits that breaks."""
    begun = min((alert.starts for alert in snapshot.alerts), default=snapshot.received)
    shown: list[dict[str, object]] = []
    for destination, mention, _ in targets:
        incident = Incident(snapshot, airflow, base_url, mention, begun, 1, False, None, snapshot.identity[:8])
        request = render(incident, templates, "full")
        shown.append({"destination": destination, "request": request, "violations": violations(request)})
    return shown


def _slot(templates: Templates, slot: str, facts: Facts, built_in: str) -> str:
    """A text of one line, which may not be empty."""
    filled = templates.fill(slot, facts.variables()) or ""
    return clip(" ".join(filled.split()) or built_in, SLOTS[slot])


def _headline(facts: Facts) -> str:
    """What a phone shows: how bad, where, what, how much of it, and the first of what it is about."""
    severity = line(facts.snapshot.severity.upper(), 20) or "FIRING"
    mood = facts.snapshot.standing.upper() or ("RESOLVED" if facts.over else severity)
    told = facts.summary or (summary_of(facts.news[0]) if len(facts.news) == 1 else "")
    snapshot = facts.snapshot
    amount = [facts.counts] if snapshot.firing + snapshot.resolved > 1 or snapshot.truncated else []
    amount += [f"after {duration(facts.duration)}"] if facts.over else []
    numbers = f" ({', '.join(amount)})" if amount else ""
    own = (".".join(text for _, text in facts.own(alert)[:2]) for alert in facts.news if len(facts.news) > 1)
    names = [*dict.fromkeys(line(name, 40) for name in own if name)]
    listed = f": {', '.join(names[:3])}{', …' if len(names) > 3 else ''}" if names else ""
    what = line(told, 160) or subject(facts)
    return f"{facts.severity_emoji} {mood} {line(facts.airflow, 40)}: {what}{numbers}{listed}"


def subject(facts: Facts) -> str:
    """The alert's name and what it is about."""
    about = [f"{NAMES[name]} {facts.labels[name]}" for name in ABOUT if facts.labels.get(name)]
    return ", ".join(line(text, 60) for text in (facts.alertname, *about[:2]))


def _title(facts: Facts) -> str:
    after = f" after {duration(facts.duration)}" if facts.over else ""
    return f"{facts.counts}{after} — {line(facts.alertname, 80)}"


def _outline(incident: Incident, facts: Facts, headline: str) -> Iterator[str]:
    """A message of a few lines, without links."""
    yield _title(facts)
    if text := _summary(facts, headline, 500):
        yield text
    yield f"since {utc(facts.since) or 'an unknown time'}"
    if len(facts.alerts) > 1:
        yield from (_alert(alert, facts, 120) for alert in facts.alerts[:3])
    yield from _marks(incident)


def _blocks(incident: Incident, facts: Facts, templates: Templates, headline: str) -> Iterator[Block]:
    title = _slot(templates, "title", facts, _title(facts))
    yield {"type": "header", "text": {"type": "plain_text", "text": title, "emoji": False}}
    summary = templates.fill("summary", facts.variables())
    yield from _section(_summary(facts, headline, SLOTS["summary"]) if summary is None else summary)
    if fields := [_text(text) for text in (*_fields(facts), *_background(incident, facts))]:
        yield {"type": "section", "fields": fields}
    if len(facts.alerts) > 1:
        yield from _section("\n".join(_lines(incident, facts, templates)))
    elif not facts.over:
        yield from _section("\n".join(failed_tasks.lines(incident)))
    yield from _context([_more(incident, facts)])
    yield from _section(_links(incident, facts, templates.fill("links", facts.variables()) or ""))
    yield from _context(_footer(incident, facts, templates.fill("footer", facts.variables())))


def _summary(facts: Facts, headline: str, limit: int) -> str:
    """What the headline does not say already."""
    told = line(facts.summary, 400) in headline
    summary = "" if told else prose(facts.summary, limit // 3)
    description = "" if facts.description == facts.summary else prose(facts.description, limit - limit // 3 - 1)
    return "\n".join(filter(None, (summary, description)))


def _fields(facts: Facts) -> Iterator[str]:
    lasting = f" ({duration(facts.duration)})"
    times = (
        [("From", facts.since, ""), ("To", facts.until, lasting)] if facts.over else [("Since", facts.since, lasting)]
    )
    for title, when, extra in times:
        if text := date(when):
            yield f"*{title}*\n{text}{extra}"
    for name in [name for name in ordered(facts.labels) if name not in SCRAPE][:6]:
        if text := code(facts.labels[name]):
            yield f"*{NAMES.get(name) or line(name, 30)}*\n{text}"


def _background(incident: Incident, facts: Facts) -> Iterator[str]:
    """What the alerts do not say themselves, while they fire."""
    known = incident.background
    if not facts.over and known.last_success:
        yield f"*Last success*\n{date(known.last_success)}"
    if not facts.over and known.failed_in_a_row:
        yield f"*Failed in a row*\n{known.failed_in_a_row:,}"


def _lines(incident: Incident, facts: Facts, templates: Templates) -> Iterator[str]:
    shared = _urls(incident, facts.labels, facts.annotations)
    for alert in facts.alerts:
        filled = templates.fill("alert", facts.variables() | {"alert": alert})
        urls = _urls(incident, facts.labels | alert.labels, alert.annotations)
        own = _row({name: url for name, url in urls.items() if url != shared[name]}, 200)
        yield _alert(alert, facts, SLOTS["alert"], own) if filled is None else filled


def _alert(alert: Alert, facts: Facts, limit: int, row: str | None = None) -> str:
    """One alert of several, on one line; without times and links where there is no row of them."""
    names = " ".join(code(text if name in NAMES else f"{name}={text}", 60) for name, text in facts.own(alert)[:3])
    summary = summary_of(alert)
    summary = "" if summary in (facts.summary, facts.description) else line(summary, limit)
    told = " ".join(filter(None, (names, summary))) or code(alert.labels.get("alertname", "")) or "an alert"
    tail = f" · after {duration(alert.ends - alert.starts)}" if alert.ends else ""
    if row is not None and alert.firing and abs(alert.starts - facts.since) >= 60:
        tail = f" · since {date(alert.starts)}"
    tail += f" · {row}" if row else ""
    return f"{'•' if alert.firing else ':white_check_mark:'} {clip(told, limit - length(tail) - 20)}{tail}"


def summary_of(alert: Alert) -> str:
    """What an alert says of itself, not yet escaped; nothing if it does not."""
    return first(alert.annotations, "summary", "title", "description", "message")


def _more(incident: Incident, facts: Facts) -> str:
    snapshot = incident.snapshot
    hidden = snapshot.firing + snapshot.resolved - len(facts.alerts)
    parts = [f"…and {hidden:,} more"] if hidden > 0 else []
    if snapshot.truncated:
        parts.append(f"{snapshot.truncated:,} cut off by Alertmanager (`max_alerts`) may still fire")
    parts += [link(links.alertmanager(snapshot, "alerts"), "all in Alertmanager")] if parts else []
    return " · ".join(filter(None, parts))


def _links(incident: Incident, facts: Facts, own: str) -> str:
    """The most useful first, as many as there is room for."""
    urls = _urls(incident, facts.labels, facts.annotations)
    urls["Query"] = facts.alerts[0].url if facts.alerts else ""
    urls["Silence"] = "" if facts.over else links.alertmanager(incident.snapshot, "silences/new")
    return _row(urls, 1600, own)


def _urls(incident: Incident, labels: Mapping[str, str], annotations: Mapping[str, str]) -> dict[str, str]:
    ours = incident.base_url and labels.get("airflow", incident.airflow) == incident.airflow
    grid = links.airflow(incident.base_url or "", incident.airflow_major, labels) if ours else ""
    return {"Airflow": grid} | links.annotated(annotations)


def _row(urls: Mapping[str, str], room: int, row: str = "") -> str:
    for text in (link(url, name) for name, url in urls.items()):
        if text and length(row) + length(text) + 3 <= room:
            row = f"{row} · {text}" if row else text
    return row


def _marks(incident: Incident) -> Iterator[str]:
    if why := STANDINGS.get(incident.snapshot.standing):
        yield why
    if incident.misrouted_from:
        yield f":warning: misrouted from {code(incident.misrouted_from)}"
    if incident.repeat:
        yield ":warning: possible repeat"
    if incident.flapping:
        yield f":repeat: flapping \N{MULTIPLICATION SIGN}{incident.flapping}"


def _footer(incident: Incident, facts: Facts, own: str | None) -> Iterator[str]:
    yield from _marks(incident)
    if own is None:
        yield " ".join(code(f"{name}={facts.labels[name]}", 50) for name in sorted(SCRAPE & facts.labels.keys())[:4])
        as_of, times = date(incident.snapshot.received), incident.shown_before
        seen = f"received {times} times" if times > 1 else ""
        told = (line(facts.airflow, 40), as_of and f"as of {as_of}", seen, f"id {line(incident.id, 20)}")
        own = " · ".join(filter(None, told))
    yield own


def _text(text: str) -> Block:
    return {"type": "mrkdwn", "text": text, "verbatim": True}  # or Slack looks for names and addresses in it


def _section(text: str) -> Iterator[Block]:
    if text:
        yield {"type": "section", "text": _text(text)}


def _context(texts: Iterable[str]) -> Iterator[Block]:
    if elements := [_text(text) for text in texts if text]:
        yield {"type": "context", "elements": elements}
