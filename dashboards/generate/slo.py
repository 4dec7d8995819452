"""Are the two objectives met, and how fast do their error budgets burn? It needs the rules of alerts/slo.rules.yml."""

from __future__ import annotations

from .board import Board
from .panels import Query, lines, tile, to
from .theme import BAD, GOOD, WARN

BOARD = Board(
    "airflow-slo",
    "Airflow / SLO",
    "Are the objectives met, and how fast do their error budgets burn? It needs the recordings of slo.rules.yml.",
    alerts='airflow="$airflow", alertname="AirflowErrorBudgetBurn"',
)

OBJECTIVES = {
    "dag_success": ("Runs that succeed", "Success", "scheduled runs that end in success", "airflow-tasks"),
    "start_delay": ("Runs that start in time", "Start", "scheduled runs that start within 60 s", "airflow-scheduler"),
}
WINDOWS = {"1h": 14.4, "6h": 6, "1d": 3, "3d": 1}
"""The long windows of the burn alerts, and from which rate on each fires."""
BURNING = ((None, GOOD), (1, WARN), (6, BAD))


def objective(slo: str) -> None:
    """One row: is it met, what is left of its budget, and how fast does that burn?"""
    title, short, promise, cause = OBJECTIVES[slo]
    chosen = f'{{airflow="$airflow", slo="{slo}"}}'
    budget = f'scalar(1 - slo:objective:ratio{{slo="{slo}"}})'
    events, bad = (f"avg_over_time(airflow:slo_{what}:rate5m{chosen}[30d])" for what in ("events", "errors"))
    errors = f"({bad} / ({events} > 0))"
    BOARD.row(
        title,
        tile(
            f"{short}: objective",
            f"Share of {promise} that is promised. It is set once, in slo.rules.yml.",
            f'max(slo:objective:ratio{{slo="{slo}"}})',
            "percentunit",
        ),
        tile(
            f"{short}: 30 days",
            f"Share of {promise} over 30 days, or since there are recordings. Below the objective it was broken.",
            f"1 - {errors}",
            "percentunit",
        ),
        tile(
            f"{short}: budget",
            "What is left of the error budget of 30 days. Below 0 change nothing risky, and mend what fails most.",
            f"1 - {errors} / {budget}",
            "percentunit",
            steps=((None, BAD), (0, WARN), (0.5, GOOD)),
        ),
        *(
            tile(
                f"{short}: burn, {window}",
                f"How many times too fast the budget burnt over {window}. Above {threshold:g}, while it goes on, "
                "an alert fires.",
                f"airflow:slo_errors:ratio_rate{window}{chosen} / {budget}",
                "short",
                steps=((None, GOOD), (1, WARN), (threshold, BAD)) if threshold > 1 else ((None, GOOD), (1, BAD)),
                link=to(cause),
            )
            for window, threshold in WINDOWS.items()
        ),
        tile(
            f"{short}: events",
            f"How many {promise.partition(' that ')[0]} there were per hour. With fewer than ten in its window no "
            "alert fires.",
            f"3600 * avg_over_time(airflow:slo_events:rate5m{chosen}[1h])",
        ),
        lines(
            f"{title}: burn rates",
            "At 1 the budget lasts as long as it should. The short windows react; the long ones say whether it "
            "mattered.",
            *(
                Query(f"airflow:slo_errors:ratio_rate{window}{chosen} / {budget}", window)
                for window in ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
            ),
            steps=BURNING,
            link=to(cause),
        ),
        lines(
            f"{title}: events and errors",
            "What is counted, per hour. Errors close to events is an outage; a few errors among few events is chance.",
            Query(f"3600 * airflow:slo_events:rate5m{chosen}", "events"),
            Query(f"3600 * airflow:slo_errors:rate5m{chosen}", "errors"),
            link=to(cause),
        ),
    )


for name in OBJECTIVES:
    objective(name)

BOARD.row(
    "Rules",
    tile(
        "Fewest events",
        "An alert on a budget fires only with as many events in its long window. It is set once, in slo.rules.yml.",
        "max(slo:events:minimum)",
        width=6,
    ),
    collapsed=True,
)
