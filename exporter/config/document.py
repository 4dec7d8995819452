"""Reads YAML and says what is wrong with it, a line per problem; no problem repeats a value, which may be a secret."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

Keys = tuple[str, ...]

_SENTENCES = {
    "extra_forbidden": "unknown key",
    "missing": "must be set",
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "tuple_type": "must be a list",
}


class ConfigError(Exception):
    """The configuration is not valid; each problem is a line that starts with its path and holds no secret."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(sorted({" ".join(problem.split()) for problem in problems}))
        super().__init__("\n".join(self.problems))


def read_mapping(path: Path) -> dict[object, Any]:
    """The mapping that a YAML file holds, empty for an empty file; ConfigError with the line otherwise."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problem = f"line {line}: not UTF-8 text"
    else:
        document = parse(text, str(path))
        if document is None or isinstance(document, dict):
            return document or {}
        problem = "line 1: must be a mapping"
    raise ConfigError([f"{path}: {problem}"])


def parse(text: str, origin: str) -> object:
    """The value that is written in YAML; ConfigError with the line if it is malformed or a key occurs twice."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506  (it is a safe one)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: an impossible date
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "holds what cannot be read as YAML"
        if not problem.startswith(("expected ", "found character ", "the key ")):
            problem = re.sub(r"""['"].*['"]""", "…", problem)  # quoted text of the document
    raise ConfigError([f"{origin}: line {mark.line + 1}: {problem}" if mark else f"{origin}: {problem}"])


def dotted(keys: Iterable[object]) -> str:
    """A path for people; what does not look like a key is left out, for it may be a misplaced secret."""
    return ".".join(str(key) if re.fullmatch(r"[\w-]{1,64}", str(key)) else "…" for key in keys)


def problems(error: ValidationError) -> Iterator[tuple[Keys, str]]:
    """Where each problem is, and a sentence about it."""
    for detail in error.errors(include_url=False, include_input=False):
        context = detail.get("ctx", {})
        unit = " seconds" if any(isinstance(bound, float) for bound in context.values()) else ""
        sentence = _SENTENCES.get(detail["type"]) or re.sub(r"^\w+ should ", "must ", detail["msg"]) + unit
        yield tuple(map(str, detail["loc"])), str(context.get("error", sentence))


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {dotted([key.value])} occurs twice", problem_mark=key.start_mark
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
            if key.tag == "tag:yaml.org,2002:bool":
                key.tag = "tag:yaml.org,2002:str"  # the key `on` is a name, whatever YAML 1.1 takes it for
        return node
