"""Which of Airflow's own troubles are told of, and of which DAGs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator

from .document import Keys
from .values import Pattern, Section, Text

if TYPE_CHECKING:
    from .model import Config

Kind = Literal["run_failed", "success_overdue", "dag_overdue", "import_error", "scheduler_silent"]
NEEDS: Mapping[str, str] = {
    "run_failed": "accounting",
    "success_overdue": "accounting",
    "dag_overdue": "dags",
    "import_error": "dag_files",
    "scheduler_silent": "jobs",
}
"""The collector that finds each kind."""


class EventDags(Section):
    """DAGs by their whole names, and with one of these tags, one of these owners, where there are any."""

    allow: Pattern = re.compile(".*")
    deny: Pattern = re.compile("")
    tags: tuple[Text, ...] = ()
    owners: tuple[Text, ...] = ()

    def named(self, dag_id: str) -> bool:
        """Whether the name is one of theirs."""
        return bool(self.allow.fullmatch(dag_id)) and not self.deny.fullmatch(dag_id)

    def include(self, dag_id: str, owners: Collection[str], tags: Collection[str]) -> bool:
        """Whether a DAG with these owners and tags is one of them."""
        return (
            self.named(dag_id)
            and (not self.tags or not {*self.tags}.isdisjoint(tags))
            and (not self.owners or not {*self.owners}.isdisjoint(owners))
        )


class AirflowEvents(Section):
    """What becomes a message without a webhook, as the database tells it; nothing by default."""

    on: Annotated[tuple[Kind, ...], AfterValidator(lambda kinds: tuple(dict.fromkeys(kinds)))] = ()
    dags: EventDags = EventDags()


def lacking(config: Config) -> Iterator[tuple[Keys, str]]:
    """What the events need and have not, and a sentence about it."""
    keys, events = ("airflow_events", "on"), config.airflow_events
    if events.on and not config.airflow.has_database:
        yield keys, "needs airflow.database_url: they are found there"
    if events.on and not config.destinations:
        yield keys, "needs destinations, to be told at"
    for kind in events.on:
        if not config.schedule(NEEDS[kind]).enabled:
            yield keys, f"{kind} needs the collector {NEEDS[kind]}, which is disabled"
