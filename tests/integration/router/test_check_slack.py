"""`scripts/check-slack` against the look-alike: they must agree on what Slack does, and no secret may be printed."""

from __future__ import annotations

import pytest

from windsock_demo.slack import Order, Workspace, check, serve


async def test_the_look_alike_does_what_is_checked_of_slack(capsys: pytest.CaptureFixture[str]) -> None:
    """Every answer is the expected one, by the token and by the webhook, and the channel shows the messages."""
    async with serve(Workspace("ops", pace=None)) as slack:
        webhook = slack.webhook_url("ops")
        assert await check.run(slack.api_url, slack.token, "ops", webhook, 0)
    printed = capsys.readouterr().out
    assert printed.endswith("\nAll is as expected.\n")
    assert "✗" not in printed and printed.count("✓") >= 20
    assert "channels:history,chat:write,chat:write.public" in printed
    assert slack.token not in printed and webhook not in printed
    first = slack.messages("ops")[0]
    assert [version.content["text"].split()[1] for version in first.versions] == [
        "CRITICAL",
        "CRITICAL",
        "check",
        "RESOLVED",
    ]


async def test_what_is_not_as_expected_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong answer fails the check, and so does none; neither shows a secret."""
    async with serve(Workspace("ops", pace=None)) as slack:
        webhook = slack.webhook_url("ops")
        slack.order(Order(error="is_archived", method="chat.postMessage"))
        slack.order(Order(cut=True, method="webhook", times=2))
        slack.order(Order(status=502, body=f"<p>{webhook}</p>", method="webhook", times=0))
        assert not await check.run(slack.api_url, slack.token, "ops", webhook, 0)
    printed = capsys.readouterr().out
    for line in (
        "✗ alerts are posted                                  is_archived",
        "✗ alerts are posted                                  ServerDisconnectedError",
        "✗ alerts are resolved, in a new message              no code (HTTP 502)",
    ):
        assert line in printed
    assert "\nNot as expected: alerts are posted; it is told from" in printed
    assert slack.token not in printed and webhook not in printed and "services/" not in printed


def test_something_must_be_given(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a token nor a webhook, or a token without a channel: a sentence, and 2."""
    monkeypatch.setattr("sys.argv", ["check-slack"])
    for token, sentence in (("", "set SLACK_TOKEN or SLACK_WEBHOOK_URL"), ("xoxb-secret", "--channel says where")):
        monkeypatch.setenv("SLACK_TOKEN", token)
        monkeypatch.delenv("SLACK_WEBHOOK_URL", raising=False)
        with pytest.raises(SystemExit) as ended:
            check.main()
        printed = capsys.readouterr().err
        assert ended.value.code == 2
        assert sentence in printed and "xoxb" not in printed
