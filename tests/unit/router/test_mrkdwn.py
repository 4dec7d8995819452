"""Slack's mrkdwn as the look-alike draws it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windsock_demo.slack.mrkdwn import plain, to_html

_TAGS = re.compile(
    r'</?(?:b|i|s|code|pre|blockquote|a|span|time)>|<a href="(?:https?://|mailto:)[^"<>]*">'
    r'|<span class="mention(?: loud)?">|<time title="[^"<>]*">',
    re.IGNORECASE,
)
NOW = datetime(2026, 11, 22, 14, 2, 5, tzinfo=timezone(timedelta(hours=1)))


def html(text: str) -> str:
    """A text as it is drawn at that time."""
    return str(to_html(text, NOW))


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("*bold* _italic_ ~gone~", "<b>bold</b> <i>italic</i> <s>gone</s>"),
        ("*bold _and italic_*", "<b>bold <i>and italic</i></b>"),
        ("2*3*4, a_b_c and * this *", "2*3*4, a_b_c and * this *"),
        ("*two\nlines*", "*two\nlines*"),
        ("`*no* :fire:`", "<code>*no* :fire:</code>"),
        ("*DAG* `etl`", "<b>DAG</b> <code>etl</code>"),
        ("*`etl`*", "<b><code>etl</code></b>"),
        ("```\na\n  b\n```\nc", "<pre>a\n  b</pre>c"),
        ("&gt; one\n&gt; two\nthree", "<blockquote>one\ntwo</blockquote>three"),
        (":red_circle: 12:30:45 :unheard_of:", "🔴 12:30:45 :unheard_of:"),
        ("a &amp; b &lt;c&gt;", "a &amp; b &lt;c&gt;"),
        ("&amp;lt;", "&amp;lt;"),
    ],
)
def test_text_is_formatted(text: str, drawn: str) -> None:
    """Bold, italic, struck, code, quotes and emojis where Slack sees them, and only there."""
    assert html(text) == drawn


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("<https://a.example/x?a=1&amp;b=2|the page>", '<a href="https://a.example/x?a=1&amp;b=2">the page</a>'),
        ("<https://a.example>", '<a href="https://a.example">https://a.example</a>'),
        ("<https://a.example|`code`>", '<a href="https://a.example"><code>code</code></a>'),
        ("`<https://a.example|code>`", '<code><a href="https://a.example">code</a></code>'),
        ("*<https://a.example|bold>*", '<b><a href="https://a.example">bold</a></b>'),
        ('<https://a.example/"onclick="x|y>', '<a href="https://a.example/&#34;onclick=&#34;x">y</a>'),
        ("<javascript:alert(1)|click>", "&lt;javascript:alert(1)|click&gt;"),
        ("<>", "&lt;&gt;"),
        ("<|x>", "&lt;|x&gt;"),
    ],
)
def test_links(text: str, drawn: str) -> None:
    """Web and mail addresses are links; nothing else is, and no address leaves its attribute."""
    assert html(text) == drawn


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("<@U012>", '<span class="mention">@U012</span>'),
        ("<@U012|ada>", '<span class="mention">@ada</span>'),
        ("<#C012|ops>", '<span class="mention">#ops</span>'),
        ("<!here>", '<span class="mention loud">@here</span>'),
        ("<!subteam^S012>", '<span class="mention loud">@S012</span>'),
        ("<!subteam^S012|@on-call>", '<span class="mention loud">@on-call</span>'),
        ("`<!channel>`", '<code><span class="mention loud">@channel</span></code>'),
        ("&lt;!channel&gt;", "&lt;!channel&gt;"),
    ],
)
def test_mentions_stand_out(text: str, drawn: str) -> None:
    """Who is called is seen, in code too, and what was escaped calls nobody."""
    assert html(text) == drawn


@pytest.mark.parametrize(
    ("form", "drawn"),
    [
        ("{date_num} {time_secs}", "2026-11-22 14:02:05"),
        ("{date_short_pretty} at {time}", "Today at 14:02"),
        ("since {date_short}", "Since Nov 22, 2026"),
        ("{date_long}", "Sunday, November 22, 2026"),
        ("{ago}", "Just now"),
        ("{unknown}", "{unknown}"),
    ],
)
def test_dates_are_told_in_the_readers_zone(form: str, drawn: str) -> None:
    """Every field of a date that Windsock could use, with its fallback for who hovers over it."""
    epoch = int(NOW.timestamp())
    assert html(f"<!date^{epoch}^{form}|13:02 UTC>") == f'<time title="13:02 UTC">{drawn}</time>'


def test_near_days_have_names() -> None:
    """Yesterday, and a day further away by its date; how long ago in the largest unit."""
    day = int(NOW.timestamp()) - 86400
    assert html(f"<!date^{day}^{{date_pretty}}, {{ago}}|x>") == '<time title="x">Yesterday, 1 day ago</time>'
    assert html(f"<!date^{day - 172800}^{{date_short_pretty}}|x>") == '<time title="x">Nov 19, 2026</time>'


def test_a_date_that_no_clock_shows_is_its_fallback() -> None:
    """A moment before all calendars is no error."""
    assert html("<!date^-99999999999^{time}|some &lt;day&gt;>") == "some &lt;day&gt;"


def test_plain_text_knows_emojis_and_escapes_alone() -> None:
    """A header is not formatted."""
    assert plain("*FIRING* :fire: a &amp; &lt;b&gt; <!here>") == "*FIRING* 🔥 a & <b> <!here>"


def test_the_zone_is_that_of_now() -> None:
    """The same moment is told differently elsewhere."""
    text = f"<!date^{int(NOW.timestamp())}^{{time}}|x>"
    assert "13:02" in str(to_html(text, NOW.astimezone(UTC)))


@given(st.text(alphabet=st.sampled_from("<>&\"'`*_~|!@#^:{}/\n ahtps0\ue000\ue001")), st.text())
def test_no_text_becomes_markup(dense: str, wide: str) -> None:
    """Whatever comes, the HTML has no element, attribute or protocol but those of mrkdwn."""
    for text in (dense, wide):
        drawn = _TAGS.sub("", html(text))
        assert "<" not in drawn
        assert "\ue000" not in drawn and "\ue001" not in drawn
