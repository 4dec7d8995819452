"""What the renderer writes is what Prometheus reads, compressed or not, and the event loop runs meanwhile."""

from __future__ import annotations

import asyncio
import gzip
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import prometheus_client.openmetrics.parser as openmetrics_parser
import prometheus_client.parser as text_parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.exposition import SLICE, Encoded, Renderer, encode, join, join_gzip
from exporter.metrics import Family, Metric

Samples = Mapping[tuple[str, ...], float | Sequence[float]]

NUMBERS = st.floats() | st.integers(-(2**70), 2**70) | st.booleans()
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
HELPS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters='"')).map(str.strip)


def family(
    name: str,
    samples: Samples,
    labels: tuple[str, ...] = (),
    help_text: str = "Help.",
    **declared: Any,
) -> Family:
    """A family as a collector would hand it over."""
    return Family(Metric(name=name, help=help_text, labels=labels, value=lambda row: None, **declared), dict(samples))


@st.composite
def families(draw: st.DrawFn) -> list[Family]:
    """Families of any kind with any texts and numbers."""
    drawn: list[Family] = []
    for index in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["gauge", "counter"]))
        prefix = draw(st.sampled_from(["airflow", "windsock"]))
        labels = ("dag_id", "state")[: draw(st.integers(0, 2))]
        values = st.floats(min_value=0, allow_infinity=False) if kind == "counter" else NUMBERS
        samples = draw(st.dictionaries(st.tuples(*(TEXTS for _ in labels)), values, max_size=3))
        name = f"{prefix}_{index}" + ("_total" if kind == "counter" else "")
        drawn.append(family(name, samples, labels, draw(HELPS), kind=kind))
    return drawn


def read(parsed: Any) -> list[tuple[str, str, frozenset[tuple[str, str]], str]]:
    """Every sample that a parser found, with its family's type; NaN equals itself in this form."""
    return [
        (found.type, sample.name, frozenset(sample.labels.items()), repr(float(sample.value)))
        for found in parsed
        for sample in found.samples
    ]


@settings(deadline=None)
@given(drawn=families(), airflow=TEXTS)
def test_prometheus_reads_back_what_was_written(drawn: list[Family], airflow: str) -> None:
    """Both formats, by prometheus_client's own parsers: the same samples, labels, types and help."""
    part = asyncio.run(Renderer(airflow).render(drawn))
    written = [
        (
            found.metric.kind,
            found.metric.name,
            frozenset(zip(found.metric.labels, labels, strict=True))
            | (frozenset({("airflow", airflow)}) if found.metric.name.startswith("airflow_") else frozenset()),
            repr(value + 0.0),  # a zero loses its sign
        )
        for found in drawn
        for labels, value in found.samples.items()
        if not isinstance(value, Sequence)
    ]
    helps = [found.metric.help for found in drawn if found.samples]
    text = list(text_parser.text_string_to_metric_families(part.text.plain.decode()))
    openmetrics = list(openmetrics_parser.text_string_to_metric_families(part.openmetrics.plain.decode() + "# EOF\n"))
    assert read(text) == written
    assert read(openmetrics) == written
    assert [found.documentation for found in text] == helps
    assert [found.documentation for found in openmetrics] == helps
    assert part.series == len(written)


async def test_the_text_to_the_byte() -> None:
    """HELP, TYPE, the constant label first, escapes, and whole numbers without a point."""
    labels = ("dag_id", "state")
    samples: Samples = {("a", ""): 3.0, ('q"\\\n%', "é"): 0.25, ("t", "x"): 1700000000.5, ("u", "x"): 1e15}
    part = await Renderer('p"%d').render(
        [
            family("airflow_x", samples, labels, "Back\\slash,\nand a line."),
            family("windsock_y_total", {(): math.inf}, kind="counter"),
            family("windsock_empty", {}),
        ]
    )
    common = r"""# HELP airflow_x Back\\slash,\nand a line.
# TYPE airflow_x gauge
airflow_x{airflow="p\"%d",dag_id="a",state=""} 3
airflow_x{airflow="p\"%d",dag_id="q\"\\\n%",state="é"} 0.25
airflow_x{airflow="p\"%d",dag_id="t",state="x"} 1700000000.5
airflow_x{airflow="p\"%d",dag_id="u",state="x"} 1000000000000000.0
"""
    assert part.text.plain.decode() == (
        f"{common}# HELP windsock_y_total Help.\n# TYPE windsock_y_total counter\nwindsock_y_total +Inf\n"
    )
    assert part.openmetrics.plain.decode() == (
        f"{common}# HELP windsock_y Help.\n# TYPE windsock_y counter\nwindsock_y_total +Inf\n"
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (True, "1"),
        (-0.0, "0"),
        (-1, "-1"),
        (0.1, "0.1"),
        (1e-9, "1e-09"),
        (2.5e20, "2.5e+20"),
        (math.nan, "NaN"),
        (-math.inf, "-Inf"),
    ],
)
async def test_numbers(number: float, text: str) -> None:
    """Each number is written so that it reads back exactly; a zero has no sign."""
    part = await Renderer("a").render([family("windsock_x", {(): number})])
    assert part.text.plain.endswith(f"\nwindsock_x {text}\n".encode())


async def test_formats_share_their_bytes_where_they_agree() -> None:
    """Without a counter there is one text, not two; what was dropped is added up."""
    gauge = family("windsock_x", {(): 1})
    part = await Renderer("a").render([gauge._replace(dropped=2), gauge._replace(dropped=3)])
    assert part.openmetrics is part.text
    assert part.dropped == 5


@settings(deadline=None)
@given(st.lists(st.binary(max_size=5000) | st.sampled_from([b"", b"airflow_x 1\n" * 1000]), max_size=5))
def test_joined_gzip_is_the_joined_text(texts: list[bytes]) -> None:
    """The parts, empty ones too, make one valid gzip member, for those who read it whole and those who stream it."""
    parts = [encode(text) for text in texts]
    whole = join(parts)
    assert whole == b"".join(texts)
    body = join_gzip(parts)
    assert gzip.decompress(body) == whole
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    assert b"".join(stream.decompress(body[at : at + 100]) for at in range(0, len(body), 100)) == whole
    assert stream.eof and not stream.unused_data


async def test_rendered_parts_join_in_any_order() -> None:
    """A part refers to nothing before it: it can be replaced alone."""
    renderer = Renderer("a")
    first = (await renderer.render([family("windsock_x", {("same " * 50,): 1}, ("dag_id",))])).text
    second = (await renderer.render([family("windsock_y", {("same " * 50,): 1}, ("dag_id",))])).text
    nothing = (await renderer.render([])).text
    for parts in ([first, second], [second, nothing, first], [second]):
        assert gzip.decompress(join_gzip(parts)) == join(parts)
    assert nothing.plain == b""
    assert len(second.deflated) < len(second.plain) / 2


async def test_the_event_loop_runs_while_50000_samples_are_rendered() -> None:
    """Rendering yields after every slice; others get as many turns as there are slices."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    samples: Samples = {(f"dag_{number}",): 1.0 for number in range(50_000)}
    part = await Renderer("a").render([family("airflow_x", samples, ("dag_id",))])
    task.cancel()
    assert part.series == 50_000
    assert turns >= 50_000 / SLICE


def test_encoded_text_ends_on_a_byte_boundary() -> None:
    """Each part ends with the empty stored block of a full flush: four bytes that any inflater can wait at."""
    encoded = encode(b"windsock_x 1\n")
    assert isinstance(encoded, Encoded)
    assert encoded.deflated.endswith(b"\x00\x00\xff\xff")


async def test_distributions_to_the_byte() -> None:
    """A histogram's buckets are cumulative and their bounds are floats; a summary is its sum and count."""
    part = await Renderer("a").render(
        [
            family(
                "airflow_h_seconds", {("x",): [2.0, 1.0, 4.0, 99.5]}, ("queue",), kind="histogram", buckets=(0.5, 60.0)
            ),
            family("windsock_s_seconds", {(): [3, 1.5]}, kind="summary"),
        ]
    )
    assert (
        part.text.plain.decode()
        == """# HELP airflow_h_seconds Help.
# TYPE airflow_h_seconds histogram
airflow_h_seconds_bucket{airflow="a",queue="x",le="0.5"} 2
airflow_h_seconds_bucket{airflow="a",queue="x",le="60.0"} 3
airflow_h_seconds_bucket{airflow="a",queue="x",le="+Inf"} 7
airflow_h_seconds_sum{airflow="a",queue="x"} 99.5
airflow_h_seconds_count{airflow="a",queue="x"} 7
# HELP windsock_s_seconds Help.
# TYPE windsock_s_seconds summary
windsock_s_seconds_sum 1.5
windsock_s_seconds_count 3
"""
    )
    parsed = list(openmetrics_parser.text_string_to_metric_families(part.openmetrics.plain.decode() + "# EOF\n"))
    assert [(found.type, len(found.samples)) for found in parsed] == [("histogram", 5), ("summary", 2)]
    assert part.series == 7
