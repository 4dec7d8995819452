"""The kinds of values in a configuration: each error says what is wanted, none repeats what was given."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import time
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, StringConstraints

T = TypeVar("T")

_ADDRESS = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^\s:/@\[\]]+)):(\d{1,5})", re.ASCII)
_DURATION = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,8})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?(?:(\d{1,12})ms)?", re.ASCII)
_UNITS = (86400, 3600, 60, 1, 0.001)
_SIZES = {"MiB": 1 << 20, "GiB": 1 << 30}


class Section(BaseModel):
    """A mapping of the configuration: unknown keys are errors, and errors do not repeat what was given."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; port 0 lets the system choose one."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in ("localhost", "::1") or re.fullmatch(r"127(\.\d+){3}", self.host) is not None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def secret_text(secret: SecretStr | Path | None) -> str:
    """The secret as it is now, without the newline that ends its file; ValueError with the reason if there is none."""
    if isinstance(secret, Path):
        if text := _content(secret, "strict").rstrip("\r\n"):
            return text
        raise ValueError(f"{secret} is empty")
    if not secret:
        raise ValueError("is not set")
    return secret.get_secret_value()


def current(secret: SecretStr | Path | None, read: Callable[[str], T]) -> T:
    """What the secret is now; OSError, without a part of it, if its file no longer holds what can be read."""
    try:
        return read(secret_text(secret))
    except ValueError as error:
        raise OSError(str(error)) from None


def holding(check: Callable[[str], object]) -> AfterValidator:
    """A secret, or the path of a file with a secret, that passes the check."""

    def validate(secret: SecretStr | Path) -> SecretStr | Path:
        check(secret_text(secret))
        return secret

    return AfterValidator(validate)


def _content(path: Path, errors: str) -> str:
    try:
        return path.read_text("utf-8", errors)
    except OSError as error:
        # A URL, perhaps with a password, is not repeated; a Path has one slash of it left.
        problem = (
            "must be the path of a file, not a URL" if ":/" in str(path) else f"cannot read {path}: {error.strerror}"
        )
    except ValueError:
        problem = "must be the path of a file of UTF-8 text"
    raise ValueError(problem)


def _readable(path: Path) -> Path:
    _content(path, "replace")
    return path


def _address(value: object) -> Address:
    match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if not match or int(match[3]) > 65535:
        raise ValueError("must be host:port, such as 0.0.0.0:9780 or [::1]:9780")
    return Address(match[1] or match[2], int(match[3]))


def _seconds(value: object) -> float:
    if isinstance(value, int | float) or (isinstance(value, str) and re.fullmatch(r"[\d.]+", value)):
        raise ValueError("a duration needs a unit: write 15s, 5m or 1h")
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not match or not match[0]:
        raise ValueError("must be a duration such as 15s, 5m, 1h or 1h30m")
    return sum(int(number or 0) * unit for number, unit in zip(match.groups(), _UNITS, strict=True))


def _bytes(value: object) -> int:
    match = re.fullmatch(r"([1-9]\d{0,5})([MG]iB)", value) if isinstance(value, str) else None
    if not match:
        raise ValueError("must be a size such as 64MiB or 1GiB")
    return int(match[1]) * _SIZES[match[2]]


def _web_address(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", value):
        raise ValueError("must be an http:// or https:// address without a password")
    return value.rstrip("/")


def _zone(value: object) -> ZoneInfo:
    try:
        return value if isinstance(value, ZoneInfo) else ZoneInfo(str(value))
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError("must be a time zone such as Europe/Berlin") from None


def _time_of_day(value: object) -> time:
    if isinstance(value, str) and re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
        return time.fromisoformat(value)
    raise ValueError('must be a time of day in quotes, such as "07:30"')  # YAML makes 17:30 a number


Listen = Annotated[Address, BeforeValidator(_address)]
Pattern = re.Pattern[str]
Duration = Annotated[float, BeforeValidator(_seconds)]
Positive = Annotated[Duration, Field(gt=0.0)]
Interval = Annotated[Duration, Field(ge=1.0)]
Timeout = Annotated[Duration, Field(gt=0.0, le=300.0)]
Size = Annotated[int, BeforeValidator(_bytes)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
TimeOfDay = Annotated[time, BeforeValidator(_time_of_day)]
Zone = Annotated[ZoneInfo, BeforeValidator(_zone)]
TaskLabel = Literal["operator", "task_id"]
TaskLabels = Annotated[tuple[TaskLabel, ...], AfterValidator(lambda names: (*sorted({*names}),))]
ReadableFile = Annotated[Path, AfterValidator(_readable)]
