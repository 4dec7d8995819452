"""What is about a DAG with a failed run is told in the thread of that run, and nothing else is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.delivery import Delivery, delivering
from tests.virtual import EPOCH, run
from windsock_demo.slack import Order


def labels(dag_id: str, airflow: str = "prod", **more: str) -> dict[str, str]:
    """What an alert about a DAG has."""
    return {"alertname": "AirflowDagFailed", "airflow": airflow, "dag_id": dag_id, **more}


async def failed(it: Delivery, dag_id: str = "etl", run_id: str = "1", firing: str = "a", resolved: str = "") -> None:
    """A run of a DAG fails, as the database tells, or is mended."""
    told: dict[str, Any] = {"source": "airflow", "receiver": "", "external_url": "", "starts": EPOCH}
    await it.tell(
        f"run:{dag_id}:{run_id}", firing, resolved=resolved, **told, common_labels=labels(dag_id, run_id=run_id)
    )


async def alerted(
    it: Delivery, key: str, dag_id: str = "etl", firing: str = "x", resolved: str = "", **more: Any
) -> None:
    """Prometheus tells about a DAG."""
    known = labels(dag_id, more.pop("airflow", "prod"))
    await it.tell(key, firing, resolved=resolved, starts=EPOCH, common_labels=known, **more)


def test_an_alert_joins_the_thread_of_its_dags_run(tmp_path: Path) -> None:
    """It is a reply, edited as a message is, with its lines beside it; other DAGs' alerts, or Airflows', are not."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await failed(it)
            await it.settled()
            await alerted(it, "late")
            await alerted(it, "other", "report")
            await alerted(it, "elsewhere", airflow="test")
            await it.settled()
            assert len(it.texts()) == 3
            (joined,) = it.slack.replies("data-alerts", it.slack.messages("data-alerts")[0].ts)
            assert not joined.broadcast
            await alerted(it, "late", firing="xy")
            await it.settled()
            await alerted(it, "late", firing="", resolved="xy")
            await it.settled()
            assert len(it.texts()) == 3
            assert joined.content["text"].startswith(":large_green_circle: RESOLVED")
            assert [line for line in it.threads()[0] if "1 more" in line]
            await failed(it, firing="", resolved="a")
            await it.settled()
            await alerted(it, "later")
            await it.settled()
            assert len(it.texts()) == 4

    run(main())


def test_it_waits_for_the_run_unless_it_is_critical(tmp_path: Path) -> None:
    """What comes while the run's message cannot be posted is in its thread in the end; what is critical is not kept."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            it.slack.order(Order(status=503, times=3))
            await failed(it)
            await alerted(it, "late")
            await it.settled()
            assert (len(it.texts()), len(it.threads()[0])) == (1, 1)
            await alerted(it, "grave", severity="critical")
            await it.settled()
            grave = it.slack.replies("data-alerts", it.slack.messages("data-alerts")[0].ts)[-1]
            assert grave.broadcast

    run(main())


def test_a_run_whose_message_is_gone(tmp_path: Path) -> None:
    """What would join it is told in the channel, as one message with a thread of its own."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await failed(it)
            await it.settled()
            it.slack.delete("data-alerts", it.slack.messages("data-alerts")[0].ts)
            await alerted(it, "late")
            await it.settled()
            await alerted(it, "late", firing="xy")
            await it.settled()
            await alerted(it, "late", firing="", resolved="xy")
            await it.settled()
            assert ["RESOLVED" in text for text in it.texts()] == [True]
            assert [len(lines) for lines in it.threads()] == [2]
            it.slack.order(Order(error="thread_not_found"))
            await alerted(it, "later")
            await asyncio.sleep(5)
            await it.settled()
            assert len(it.texts()) == 2

    run(main())


def test_a_run_whose_thread_takes_no_line(tmp_path: Path) -> None:
    """What joined it says the same by itself."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await failed(it)
            await alerted(it, "late")
            await it.settled()
            it.slack.order(Order(error="thread_not_found", method="chat.postMessage"))
            await alerted(it, "late", firing="xy")
            await it.settled()
            assert [len(lines) for lines in it.threads()] == [1]
            assert "2 firing" in it.threads()[0][0]

    run(main())


def test_a_run_that_fails_again(tmp_path: Path) -> None:
    """Whoever cleared it is told so; nothing of it was resolved."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await failed(it)
            await it.settled()
            await failed(it, firing="b")
            await it.settled()
            ((line,),) = it.threads()
            assert "fires again" in line and "resolved" not in line
            assert line.endswith("<@U1>")

    run(main())
