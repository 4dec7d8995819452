"""Gathers the configuration: the command line over WINDSOCK_… variables over the file over Airflow's variables."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from . import airflow
from .document import ConfigError, Keys, dotted, parse, problems, read_mapping
from .events import lacking
from .model import Config
from .router import contradictions

Setting = tuple[Keys, object, str]
"""Where it belongs, its value, and the file or variable that says so."""

# Ours for other ends, and what Kubernetes puts beside a Service that is named windsock or windsock-….
_NO_SETTING = re.compile(
    r"WINDSOCK_(CONFIG|CACHE|REQUIRE_TOOLS|TEST_\w+)"
    r"|\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_SECRETS = {"database_url", "broker_url", "sentinel_password", "token", "webhook_url", "heartbeat_url"}
_NOTHING = (
    "airflow.database_url: neither this nor celery.broker_url (or their _file) nor destinations are set: not in a file,"
    " nor by WINDSOCK_AIRFLOW__DATABASE_URL, WINDSOCK_CELERY__BROKER_URL or WINDSOCK_DESTINATIONS, nor by Airflow's "
    f"{' or '.join((*airflow.DATABASE, airflow.BROKER))}"
)


def load(
    path: Path | None, environ: Mapping[str, str], *, collectors: Collection[str], overrides: Mapping[str, object] = {}
) -> Config:
    """The configuration, or ConfigError with all problems; without a path $WINDSOCK_CONFIG's file."""
    given = _Given()
    given.add(item for key, value in overrides.items() for item in _settings(_keys(key), value, "the command line"))
    given.add(_environment(environ, given.problems))
    if path := path or (Path(environ["WINDSOCK_CONFIG"]) if environ.get("WINDSOCK_CONFIG") else None):
        given.add(_file(path))
    variables = airflow.Variables(environ, lambda key: given.has(_keys(key)))
    given.add(item for key, value, origin in variables.settings for item in _settings(_keys(key), value, origin))
    given.problems += variables.problems
    given.check_collectors(collectors)
    config = None
    try:
        config = Config.model_validate(given.values, context=tuple(variables.warnings))
    except ValidationError as error:
        given.problems += [given.problem(keys, sentence) for keys, sentence in problems(error)]
    if config:
        found = (*contradictions(config), *lacking(config))
        given.problems += [given.problem(keys, sentence) for keys, sentence in found]
    watches = config and (config.airflow.has_database or config.celery.has_broker or config.destinations)
    if not given.problems and not watches:
        given.problems += [_NOTHING, *variables.warnings]
    if config is None or given.problems:
        raise ConfigError(given.problems)  # not inside `except`: a ValidationError holds what was given
    return config


class _Given:
    """What was said and by whom; what is added first stands."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.problems: list[str] = []
        self._origins: dict[Keys, str] = {}

    def add(self, settings: Iterable[Setting]) -> None:
        """A layer; a secret and its file are one setting, which it may say once."""
        earlier = {_setting(keys) for keys in self._origins}
        for keys, value, origin in settings:
            if _setting(keys) in earlier:
                continue
            if keys not in self._origins and self.has(keys):
                self.problems.append(f"{dotted(_setting(keys))}: is given beside its _file ({origin})")
            self._put(keys, value, origin)

    def has(self, keys: Keys) -> bool:
        """Whether the setting was said."""
        return _setting(keys) in map(_setting, self._origins)

    def problem(self, keys: Keys, sentence: str) -> str:
        """A line about what is wrong there, with all that said it."""
        origins = [
            origin for said, origin in self._origins.items() if said == keys[: len(said)] or keys == said[: len(keys)]
        ]
        return f"{dotted(keys)}: {sentence}" + (f" ({', '.join(sorted(set(origins)))})" if origins else "")

    def check_collectors(self, known: Collection[str]) -> None:
        """Every collector that is configured exists."""
        configured = self.values.get("collectors")
        for name in configured if isinstance(configured, dict) else ():
            if name not in known:
                sentence = f"there is no such collector, only {', '.join(sorted(known))}"
                self.problems.append(self.problem(("collectors", name), sentence))

    def _put(self, keys: Keys, value: object, origin: str) -> None:
        node = self.values
        for key in keys[:-1]:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                return  # an earlier layer says something else in place of the mapping
        node.setdefault(keys[-1], value)
        self._origins.setdefault(keys, origin)


def _environment(environ: Mapping[str, str], problems: list[str]) -> Iterator[Setting]:
    for name in sorted(environ, key=len, reverse=True):  # WINDSOCK_A__B before the WINDSOCK_A that may hold a b
        if not name.startswith("WINDSOCK_"):
            continue
        keys = _keys(name.removeprefix("WINDSOCK_").lower(), "__")
        declared, _ = _declared(keys)
        if declared is None:
            if not _NO_SETTING.fullmatch(name):
                problems.append(f"{dotted(keys)}: unknown key ({name})")
        elif text := environ[name]:
            try:
                value = parse(text, dotted(keys)) if _is_mapping(declared) or get_origin(declared) is tuple else text
            except ConfigError as error:
                problems += [f"{problem} ({name})" for problem in error.problems]
            else:
                yield from _settings(keys, value, name)


def _file(path: Path) -> Iterator[Setting]:
    for keys, value, origin in _settings((), read_mapping(path), str(path)):
        if isinstance(value, str) and keys[-1].endswith("_file"):
            yield keys, str(path.parent / value), origin
        elif isinstance(value, list) and keys[-1].endswith("_files"):
            yield keys, [str(path.parent / item) if isinstance(item, str) else item for item in value], origin
        else:
            yield keys, value, origin


def _settings(keys: Keys, value: object, origin: str) -> Iterator[Setting]:
    """One setting for each leaf; `section:` with nothing below says nothing, unless null has a meaning there."""
    declared, optional = _declared(keys)
    if not _is_mapping(declared) or not isinstance(value, Mapping | None) or (not value and optional):
        yield keys, value, origin
    elif value:
        for key, item in value.items():
            yield from _settings((*keys, str(key)), item, origin)


def _declared(keys: Keys) -> tuple[Any, bool]:
    """The type at a path of the model, None if there is no such key, and whether null is one of its values."""
    declared: Any = Config
    optional = False
    for key in keys:
        if get_origin(declared) is dict:
            declared, optional = get_args(declared)[1], False
        elif _is_mapping(declared) and key in declared.model_fields:
            declared = declared.model_fields[key].annotation
            optional = NoneType in get_args(declared)
            declared = get_args(declared)[0] if optional else declared
        else:
            return None, False
    return declared, optional


def _is_mapping(declared: Any) -> bool:
    return get_origin(declared) is dict or (isinstance(declared, type) and issubclass(declared, BaseModel))


def _keys(text: str, separator: str = ".") -> Keys:
    return tuple(text.split(separator))


def _setting(keys: Keys) -> Keys:
    base = keys[-1].removesuffix("_file")
    return (*keys[:-1], base) if base in _SECRETS else keys
