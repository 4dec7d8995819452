"""What the thread below a message says of a change: it names only what is new, since the message shows the rest."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from .incident import ABOUT, NAMES, SHOWN, Facts, Incident, gather
from .markup import clip, code, duration, line
from .message import MAX_MENTION, PLAIN, subject, summary_of
from .model import Alert

LONGEST = 3000


def render_line(incident: Incident, known: Collection[str], now: float, *, reminder: bool) -> dict[str, object]:
    """What to reply where these fingerprints were known to fire; who must notice gets it in the channel, too."""
    facts, fires = gather(incident), incident.snapshot.fires
    told, mention = subject(facts), ""
    again = bool(fires) and (not known or (incident.snapshot.run_of is not None and fires.isdisjoint(known)))
    if facts.over:
        ended = facts.snapshot.standing or "resolved"
        said = [f"{facts.severity_emoji} {ended} after {duration(facts.duration)}"]
    elif again:
        said = [f"{facts.severity_emoji} fires again: {told} ({facts.counts})", *_named(facts, fires)]
        mention = "" if incident.flapping else clip(incident.mention.strip(), MAX_MENTION)
    elif fires == {*known}:
        said = [f":bell: still firing after {duration(now - facts.since)}: {told} ({facts.counts})"]
    else:
        said = [*_changes(facts, fires - {*known}, {*known} - fires)]
    if incident.repeat:
        said.append(":warning: possible repeat")
    loud = (again or reminder) and not facts.over and incident.snapshot.critical
    text = clip("\n".join(said), LONGEST)
    return {"text": f"{text}  {mention}".rstrip(), "reply_broadcast": loud, **PLAIN}


def _changes(facts: Facts, new: set[str], gone: set[str]) -> Iterator[str]:
    if new:
        yield f"{facts.severity_emoji} {len(new):,} more (now {facts.counts}):"
        yield from _named(facts, new)
    if gone:
        names = [_name(alert, facts) for alert in facts.snapshot.alerts if alert.fingerprint in gone][:SHOWN]
        rest = [f"{len(gone) - len(names):,} more"] if len(gone) > len(names) else []
        listed = f": {', '.join([*names, *rest])}" if names else ""
        yield f":white_check_mark: {len(gone):,} resolved{listed}"


def _named(facts: Facts, fingerprints: Collection[str]) -> Iterator[str]:
    """A line for each of these alerts, as many as a message lists."""
    found = [alert for alert in facts.snapshot.alerts if alert.fingerprint in fingerprints][:SHOWN]
    for alert in found:
        summary = summary_of(alert)
        yield " ".join(filter(None, ("•", _name(alert, facts), line(summary, 200))))
    if rest := len(fingerprints) - len(found):
        yield f"…and {rest:,} more"


def _name(alert: Alert, facts: Facts) -> str:
    """What tells an alert from the others of its group or, if there is nothing, what it is about."""
    about = [(name, alert.labels[name]) for name in ABOUT if alert.labels.get(name)]
    told = (code(text if name in NAMES else f"{name}={text}", 60) for name, text in (facts.own(alert) or about)[:3])
    return " ".join(filter(None, told)) or code(alert.labels.get("alertname", "")) or "an alert"
