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
from itertools import chain, islice
from typing import Literal, NamedTuple

from .metrics import Family, Metric

Format = Literal["text", "openmetrics"]

SLICE = 500
"""How many samples are rendered before the event loop gets its turn."""

_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_DEFLATE_END = b"\x03\x00"


class Encoded(NamedTuple):
    """The same text plain and as deflate blocks without a final one."""

    plain: bytes
    deflated: bytes


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
        self._airflow = f'airflow="{_escape(airflow)}"'

    async def render(self, families: Sequence[Family]) -> Part:
        """The part for these families; the event loop runs between slices."""
        text = await self._encode(families, "text")
        counters = any(family.metric.kind == "counter" for family in families)
        openmetrics = await self._encode(families, "openmetrics") if counters else text
        return Part(
            text,
            openmetrics,
            sum(len(family.samples) for family in families),
            sum(family.dropped for family in families),
        )

    async def _encode(self, families: Sequence[Family], form: Format) -> Encoded:
        compressor = zlib.compressobj(level=4, wbits=-zlib.MAX_WBITS)
        plain: list[bytes] = []
        deflated: list[bytes] = []
        lines = chain.from_iterable(self._lines(family, form) for family in families)
        while chunk := "".join(islice(lines, SLICE)).encode():
            if plain:  # what fits into one slice waits for nobody
                await asyncio.sleep(0)
            plain.append(chunk)
            deflated.append(compressor.compress(chunk))
        deflated.append(compressor.flush(zlib.Z_FULL_FLUSH))
        return Encoded(b"".join(plain), b"".join(deflated))

    def _lines(self, family: Family, form: Format) -> Iterator[str]:
        metric = family.metric
        if not family.samples:
            return
        yield _heading(metric, form)
        constant = self._airflow if metric.name.startswith("airflow_") else ""
        for labels, value in family.samples.items():
            pairs = [f'{name}="{_escape(text)}"' for name, text in zip(metric.labels, labels, strict=True)]
            if constant:
                pairs.insert(0, constant)
            braces = "{" + ",".join(pairs) + "}" if pairs else ""
            yield f"{metric.name}{braces} {_number(value)}\n"


def encode(text: bytes) -> Encoded:
    """A text that was rendered elsewhere, ready to be joined."""
    compressor = zlib.compressobj(level=4, wbits=-zlib.MAX_WBITS)
    return Encoded(text, compressor.compress(text) + compressor.flush(zlib.Z_FULL_FLUSH))


def join(parts: Iterable[Encoded]) -> bytes:
    """The parts as one plain body."""
    return b"".join(part.plain for part in parts)


def join_gzip(parts: Sequence[Encoded]) -> bytes:
    """The parts as one gzip member; nothing is compressed again."""
    checksum = length = 0
    for part in parts:
        checksum = zlib.crc32(part.plain, checksum)
        length += len(part.plain)
    trailer = struct.pack("<II", checksum, length & 0xFFFFFFFF)
    return b"".join([_GZIP_HEADER, *(part.deflated for part in parts), _DEFLATE_END, trailer])


def _heading(metric: Metric[object], form: Format) -> str:
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
