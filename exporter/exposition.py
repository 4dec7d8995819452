"""Families become bytes once, when they change: text and OpenMetrics, each also deflated, ready to be joined.

The deflated parts end on a byte boundary and refer to nothing before them, so a gzip body is made by joining them: a
scrape compresses nothing. `docs/adr/0002-own-text-renderer.md` has the reasons.
"""

from __future__ import annotations

import asyncio
import math
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Literal, NamedTuple

from .metrics import Declared, Family

Format = Literal["text", "openmetrics"]

SLICE = 250
"""How many samples are rendered before the event loop gets its turn."""

_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_DEFLATE_END = b"\x03\x00"


class Encoded(NamedTuple):
    """A text plain and as deflate blocks without a final one; `shift` multiplies the CRC of what comes before."""

    plain: bytes
    deflated: bytes
    checksum: int
    shift: int


@dataclass(frozen=True, slots=True)
class Part:
    """Some families, ready to be sent in either format."""

    text: Encoded
    openmetrics: Encoded
    series: int
    dropped: int


class Renderer:
    """Writes families in Prometheus's formats; here, and nowhere else, `airflow_*` samples get the label `airflow`."""

    def __init__(self, airflow: str) -> None:
        self._airflow = f'airflow="{_escape(airflow).replace("%", "%%")}"'

    async def render(self, families: Sequence[Family]) -> Part:
        """The part for these families; the event loop runs between slices."""
        counters = any(family.metric.kind == "counter" for family in families)
        formats = [_Format("text"), *([_Format("openmetrics")] if counters else ())]
        rendered = 0
        for family in families:
            lines = self._lines(family)
            for form in formats if family.samples else ():
                form.add(_heading(family.metric, form.name).encode())
            while chunk := [*islice(lines, SLICE)]:
                if rendered + len(chunk) >= SLICE:  # what fits into one slice waits for nobody
                    rendered = 0
                    await asyncio.sleep(0)
                rendered += len(chunk)
                for form in formats:  # which have the same lines
                    form.add("".join(chunk).encode())
        encoded = [form.end() for form in formats]
        return Part(
            encoded[0],
            encoded[-1],
            sum(len(family.samples) * len(_suffixes(family.metric)) for family in families),
            sum(family.dropped for family in families),
        )

    def _lines(self, family: Family) -> Iterator[str]:
        metric = family.metric
        pairs = [f'{name}="%s"' for name in metric.labels]
        if metric.name.startswith("airflow_"):
            pairs.insert(0, self._airflow)
        lines = [f"{metric.name}{suffix}{_braces(pairs + le)} %s\n" for suffix, le in _suffixes(metric)]
        for labels, value in family.samples.items():
            texts = [*map(_escape, labels)]
            for line, number in zip(lines, _numbers(metric, value), strict=True):
                yield line % (*texts, _number(number))


class _Format:
    """One format of a part in the making."""

    def __init__(self, name: Format) -> None:
        self.name = name
        self._compressor = zlib.compressobj(level=4, wbits=-zlib.MAX_WBITS)
        self._plain: list[bytes] = []
        self._deflated: list[bytes] = []

    def add(self, text: bytes) -> None:
        self._plain.append(text)
        self._deflated.append(self._compressor.compress(text))

    def end(self) -> Encoded:
        self._deflated.append(self._compressor.flush(zlib.Z_FULL_FLUSH))
        return _encoded(b"".join(self._plain), b"".join(self._deflated))


def encode(text: bytes) -> Encoded:
    """A text that was rendered elsewhere, ready to be joined."""
    compressor = zlib.compressobj(level=4, wbits=-zlib.MAX_WBITS)
    return _encoded(text, compressor.compress(text) + compressor.flush(zlib.Z_FULL_FLUSH))


def join(parts: Iterable[Encoded]) -> bytes:
    """The parts as one plain body."""
    return b"".join(part.plain for part in parts)


def join_gzip(parts: Sequence[Encoded]) -> bytes:
    """The parts as one gzip member; nothing is compressed again, and no plain text is read."""
    checksum = length = 0
    for part in parts:
        checksum = _product(checksum, part.shift) ^ part.checksum
        length += len(part.plain)
    trailer = struct.pack("<II", checksum, length & 0xFFFFFFFF)
    return b"".join([_GZIP_HEADER, *(part.deflated for part in parts), _DEFLATE_END, trailer])


def _encoded(plain: bytes, deflated: bytes) -> Encoded:
    shift, power, bits = 1 << 31, 1 << 30, 8 * len(plain)
    while bits:
        if bits & 1:
            shift = _product(shift, power)
        power = _product(power, power)
        bits >>= 1
    return Encoded(plain, deflated, zlib.crc32(plain), shift)


def _product(a: int, b: int) -> int:
    """The product of two polynomials modulo that of CRC-32; the highest of 32 bits is the coefficient of 1."""
    product = 0
    while a:
        if a & 1 << 31:
            product ^= b
        a = a << 1 & 0xFFFFFFFF
        b = b >> 1 ^ (0xEDB88320 if b & 1 else 0)
    return product


def _suffixes(metric: Declared) -> list[tuple[str, list[str]]]:
    """What distinguishes the lines of one sample: what follows the name, and the last label."""
    if metric.kind not in ("histogram", "summary"):
        return [("", [])]
    bounds = [*(repr(float(bound)) for bound in metric.buckets), "+Inf"] if metric.kind == "histogram" else []
    return [*(("_bucket", [f'le="{bound}"']) for bound in bounds), ("_sum", []), ("_count", [])]


def _numbers(metric: Declared, value: float | Sequence[float]) -> Sequence[float]:
    if isinstance(value, int | float):  # asking for Sequence takes five times as long
        return (value,)
    *counts, total = value
    return (*(accumulate(counts) if metric.kind == "histogram" else ()), total, sum(counts))


def _braces(pairs: list[str]) -> str:
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _heading(metric: Declared, form: Format) -> str:
    name = metric.name.removesuffix("_total") if form == "openmetrics" and metric.kind == "counter" else metric.name
    help_text = metric.help.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {help_text}\n# TYPE {name} {metric.kind}\n"


def _escape(text: str) -> str:
    if "\\" in text or '"' in text or "\n" in text:
        return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return text


def _number(value: float) -> str:
    if math.isfinite(value):
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
