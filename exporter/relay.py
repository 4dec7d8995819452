"""The router as the daemon runs it: what takes alerts in, what sends messages, and the configuration that both follow.

At a reload, what concerns messages changes at once, the rest at the next start; a bad configuration changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from .config import Config, ConfigError
from .config.router import NEED_DESTINATIONS
from .incident_context import IncidentContext
from .router.dispatcher import Dispatcher
from .router.lane import Shared
from .router.slack import Slack
from .router.templates import Templates
from .state import State
from .telemetry import RELOAD_SUCCESS_TIME, RELOAD_SUCCESSFUL, TEMPLATE_FAILURES
from .web_config import WebConfig
from .webhook import Access, Intake

log = logging.getLogger(__name__)

AT_ONCE = frozenset({"slack", "destinations", "routes", "storm", "templates", *NEED_DESTINATIONS})
"""Sections that a reload changes; those of the exporter's half need a start."""


class Relay:
    """Without a destination it takes in nothing, and sends nothing.

    `read` gives the configuration as it is now, `major` the version of Airflow that links lead to.
    """

    def __init__(
        self,
        config: Config,
        access: WebConfig,
        state: State | None,
        read: Callable[[], Config],
        major: Callable[[], int] = lambda: 3,
        context: IncidentContext | None = None,
    ) -> None:
        self.config, self._read = config, read
        self.access = Access(config, access)
        self.intake: Intake | None = None
        self.dispatcher: Dispatcher | None = None
        if state and config.destinations:
            self.intake = Intake(state, self.access, lambda: self.config)
            shared = Shared(state, Slack(config.slack), config, _templates(config), major, background=context)
            self.dispatcher = Dispatcher(shared)
        _succeeded()

    def reload(self) -> list[str]:
        """The problems of a configuration that is not taken over; none if it is."""
        try:
            config = self._read()
            if self.dispatcher and not config.destinations:
                raise ConfigError(["destinations: the last one can be taken away only by a restart"])
        except ConfigError as error:
            RELOAD_SUCCESSFUL.set(0)
            log.error("configuration not reloaded", extra={"problems": "; ".join(error.problems)})
            return list(error.problems)
        at_once = AT_ONCE if self.dispatcher else frozenset()
        changed = {name for name in Config.model_fields if getattr(config, name) != getattr(self.config, name)}
        self.config = self.config.model_copy(update={name: getattr(config, name) for name in changed & at_once})
        if self.dispatcher:
            self.dispatcher.configure(self.config, _templates(self.config))
        if later := changed - at_once:
            log.warning("a restart is needed for some of what changed", extra={"sections": ", ".join(sorted(later))})
        _succeeded()
        log.info("configuration reloaded", extra={"changed": ", ".join(sorted(changed & at_once))})
        return []


def _templates(config: Config) -> Templates:
    return Templates(config.templates, lambda slot: TEMPLATE_FAILURES.labels(slot).inc())


def _succeeded() -> None:
    RELOAD_SUCCESSFUL.set(1)
    RELOAD_SUCCESS_TIME.set_to_current_time()
