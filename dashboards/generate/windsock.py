"""Does Windsock itself see everything, and does what it is told reach Slack?"""

from __future__ import annotations

from .board import AIRFLOW, Board, choice
from .panels import Column, Query, bars, lines, rows, tile, timeline
from .promql import increase, largest, mean, of, oldest, quantile, smallest, total
from .theme import ANY_IS_BAD, BAD, GOOD, NO_IS_BAD, OK, PLAIN, WARN

SOURCES = '{__name__=~"airflow_db_up|airflow_broker_up", airflow!="$airflow"}'
BOARD = Board(
    "windsock",
    "Airflow / Windsock",
    "Does Windsock itself see everything, and does what it is told reach Slack? For one Airflow's daemons, and those "
    "that only route.",
    alerts='component="windsock"',
    variables=(
        AIRFLOW,
        choice("job", "Job", "label_values(windsock_build_info, job)", several=True, every=""),
        choice(
            "instance",
            "Instance",
            f'query_result(windsock_build_info{{job=~"$job"}} unless on (job, instance) {SOURCES})',
            several=True,
            every="",
            regex='/instance="([^"]+)"/',
        ),
    ),
)

SCRAPED = 'job=~"$job", instance=~"$instance"'
CURRENT = f"max by (collector) ({of('windsock_collector_last_success_timestamp_seconds')})"

BOARD.row(
    "Now",
    tile(
        "Windsocks up",
        "Share of the daemons that answer Prometheus. Below 1 one is gone: nobody else reports about what it watched.",
        f"avg(up{{{SCRAPED}}})",
        "percentunit",
        steps=((None, BAD), (1, GOOD)),
    ),
    tile(
        "Collectors failing",
        "Collectors whose last read failed. Normal is 0; all at once are the database or the broker.",
        f"count({of('windsock_collector_success')} == 0) or vector(0)",
        steps=ANY_IS_BAD,
    ),
    tile(
        "Oldest data",
        "Time since the collector last succeeded that waited longest; slow ones read every ten minutes.",
        f"time() - min({CURRENT})",
        "s",
        steps=((None, GOOD), (900, WARN), (1800, BAD)),
    ),
    tile(
        "Counts complete",
        "Whether all that is active is tracked. No: raise the limits of the accounting, for it counts too little.",
        f"1 - {largest('windsock_accounting_truncated', ())}",
        names=NO_IS_BAD,
        none="not counting",
    ),
    tile(
        "Messages waiting",
        "Messages that wait to be sent to Slack. Normal is 0, or a few for seconds.",
        total("windsock_outbox_messages"),
        steps=((None, GOOD), (20, WARN)),
        none="not routing",
    ),
    tile(
        "Dead letters",
        "Messages that were given up. Normal is 0: `windsock dead-letters list` says why, and sends them again.",
        total("windsock_dead_letters"),
        steps=ANY_IS_BAD,
        none="not routing",
    ),
    tile(
        "Circuits open",
        "Destinations that only get probes now, for they failed again and again. Normal is 0: look at token and "
        "channel.",
        total("windsock_circuit_open"),
        steps=ANY_IS_BAD,
        none="not routing",
    ),
    tile(
        "Config in use",
        "Whether the newest configuration is in use. No: it was refused, and the log says why.",
        smallest("windsock_config_last_reload_successful", ()),
        names=NO_IS_BAD,
    ),
)

BOARD.row(
    "Collectors",
    timeline(
        "Collectors",
        "Whether each collector's last read succeeded. One red line is that collector, all of them are its source.",
        Query(smallest("windsock_collector_success", ["collector"]), "{{collector}}"),
        names=OK,
        width=12,
        height=10,
    ),
    rows(
        "Collectors in figures",
        "Age of the data, mean and slowest tenth of the reads in the time above, failures, and series left out.",
        "collector",
        [
            (Column("Since success", "s"), f"time() - {CURRENT}"),
            (Column("Mean read", "s"), mean("windsock_collector_duration_seconds", ["collector"], "$__range")),
            (
                Column("Failures", steps=((None, PLAIN), (1, WARN))),
                increase("windsock_collector_errors_total", ["collector"], "$__range"),
            ),
            (
                Column("Series left out", steps=((None, PLAIN), (1, WARN))),
                largest("windsock_collector_series_dropped", ["collector"]),
            ),
        ],
        labels=[("collector", Column("Collector"))],
        height=10,
        width=12,
    ),
    lines(
        "Age of the data",
        "Time since each collector last succeeded. Each saw goes up to its interval; a line that only rises is a "
        "failure.",
        Query(f"time() - {CURRENT}", "{{collector}}"),
        unit="s",
        many=True,
    ),
    lines(
        "Time to read",
        "Nine of ten reads are faster. Normal is milliseconds; a slow one makes its timeout next, and costs the "
        "database.",
        Query(quantile(0.9, "windsock_collector_duration_seconds", ["collector"]), "{{collector}}"),
        unit="s",
        many=True,
    ),
    bars(
        "Failed reads",
        "By collector and reason. Normal is none; a timeout says that the source is slow, not that Windsock is.",
        Query(
            f"{increase('windsock_collector_errors_total', ['collector', 'reason'])} > 0", "{{collector}}: {{reason}}"
        ),
    ),
    lines(
        "Sources",
        "Whether database and broker answer, as each Windsock sees it. Only one of several red is that one's network.",
        Query('min by (instance) (airflow_db_up{airflow="$airflow"})', "database, {{instance}}"),
        Query('min by (instance) (airflow_broker_up{airflow="$airflow"})', "broker, {{instance}}"),
        top=1,
    ),
)

BOARD.row(
    "Messages to Slack",
    bars(
        "Webhooks",
        "Webhooks by source and answer. 200 is stored; 503 is tried again; 4xx is lost to its sender, who must "
        "be mended.",
        Query(f"{increase('windsock_webhook_requests_total', ['source', 'code'])} > 0", "{{source}} {{code}}"),
        ends={"200": GOOD, "503": WARN, "4..": BAD},
        width=8,
    ),
    bars(
        "Alerts received",
        "Alerts in stored webhooks. Far more than messages sent is normal: a group is one message that updates itself.",
        Query(increase("windsock_alerts_received_total", ["source", "status"]), "{{source}} {{status}}"),
        ends={"firing": BAD, "resolved": GOOD},
        width=8,
    ),
    lines(
        "Time to acknowledge",
        "From a webhook's first byte to the answer, once it is on disk. Above a second the disk is slow.",
        Query(quantile(0.5, "windsock_webhook_ack_seconds"), "half within"),
        Query(quantile(0.99, "windsock_webhook_ack_seconds"), "99 % within"),
        unit="s",
        width=8,
    ),
    lines(
        "Waiting by destination",
        "By destination. What only grows is not delivered: look at requests and circuits.",
        Query(total("windsock_outbox_messages", ["destination"]), "{{destination}}"),
        width=8,
    ),
    lines(
        "Oldest message waiting",
        "Age by destination. Normal is no line, or seconds; minutes are rate limits or an outage of Slack.",
        Query(oldest("windsock_outbox_oldest_timestamp_seconds", ["destination"]), "{{destination}}"),
        unit="s",
        width=8,
    ),
    lines(
        "Time to deliver",
        "From the receipt to Slack's answer. Normal is a second; more is pacing, rate limits or retries.",
        Query(quantile(0.5, "windsock_delivery_seconds"), "half within"),
        Query(quantile(0.99, "windsock_delivery_seconds"), "99 % within"),
        unit="s",
        width=8,
    ),
    bars(
        "Requests to Slack",
        "By method and outcome. Rate limited ones are paced and tried again; refused ones need a look at the token.",
        Query(increase("windsock_slack_requests_total", ["method", "result"]), "{{method}} {{result}}"),
    ),
    bars(
        "Messages settled",
        "By destination and outcome. Anything but posted and updated wants a look at the dead letters.",
        Query(increase("windsock_deliveries_total", ["destination", "outcome"]), "{{destination}} {{outcome}}"),
        ends={"posted": GOOD, "updated": "blue", "diverted": WARN, "dead": BAD},
    ),
    timeline(
        "Circuits",
        "When a destination only got probes. Long bars: the channel is gone, or the token is no longer valid.",
        Query(largest("windsock_circuit_open", ["destination"]), "{{destination}}"),
        names=((0, "Closed", GOOD), (1, "Open", BAD)),
        width=12,
        height=8,
    ),
    lines(
        "Dead letters by destination",
        "Messages that were given up, by destination. `windsock dead-letters retry` sends them again.",
        Query(total("windsock_dead_letters", ["destination"]), "{{destination}}"),
    ),
)

BOARD.row(
    "Process",
    lines(
        "Memory",
        "Resident memory. It follows the number of series; what only rises over days is a fault of ours.",
        Query(f"max by (instance) (process_resident_memory_bytes{{{SCRAPED}}})", "{{instance}}"),
        unit="bytes",
        width=8,
    ),
    lines(
        "CPU",
        "Share of a core. Normal is a few per cent.",
        Query(f"sum by (instance) (rate(process_cpu_seconds_total{{{SCRAPED}}}[$__rate_interval]))", "{{instance}}"),
        unit="percentunit",
        width=8,
    ),
    lines(
        "Open files",
        "As a share of the limit. Above a half something leaks, or very many scrape at once.",
        Query(
            f"max by (instance) (process_open_fds{{{SCRAPED}}} / process_max_fds{{{SCRAPED}}})",
            "{{instance}}",
        ),
        unit="percentunit",
        width=8,
    ),
    rows(
        "Versions",
        "What runs where. Two versions for longer than a deployment are a deployment that hangs.",
        "instance",
        [(Column(""), f"max by (instance, version) ({of('windsock_build_info')})")],
        labels=[("instance", Column("Instance")), ("version", Column("Version"))],
        hidden=["Value"],
        height=6,
        width=12,
    ),
    tile(
        "Running for",
        "Time since the youngest of them started. Short, again and again: it crashes, or is killed for its memory.",
        f"time() - max(process_start_time_seconds{{{SCRAPED}}})",
        "s",
        width=4,
    ),
    tile(
        "Configuration read",
        "Time since the configuration in use was read.",
        oldest("windsock_config_last_reload_success_timestamp_seconds"),
        "s",
        width=4,
    ),
    tile(
        "Negative durations",
        "Times between two clocks that were negative, in the time above. More than a few: a worker's clock is wrong.",
        increase("windsock_accounting_negative_durations_total", window="$__range"),
        steps=((None, PLAIN), (10, WARN)),
        width=4,
    ),
    lines(
        "Scrapes",
        "How long Prometheus takes to fetch the metrics. Normal is milliseconds: they are made ready beforehand.",
        Query(f"max by (instance) (scrape_duration_seconds{{{SCRAPED}}})", "{{instance}}"),
        unit="s",
        width=8,
    ),
    lines(
        "Series",
        "Series per scrape. It follows the number of DAGs; a jump is a new label or a generator of DAGs.",
        Query(f"max by (instance) (scrape_samples_scraped{{{SCRAPED}}})", "{{instance}}"),
        width=8,
    ),
    bars(
        "Nothing new",
        "Webhooks that told what was known, such as those of a second Alertmanager. They are normal, and cost little.",
        Query(increase("windsock_duplicates_total", ["kind"]), "{{kind}}"),
        width=8,
    ),
    bars(
        "Failed templates",
        "Texts for which the built-in one stood in, normally none. The log has the reason.",
        Query(increase("windsock_template_failures_total", ["slot"]), "{{slot}}"),
        width=8,
    ),
    collapsed=True,
)

BOARD.row(
    "Storms and watchdogs",
    timeline(
        "Storms",
        "When one summary told of many groups of alerts. Often: group by more in Alertmanager.",
        Query(largest("windsock_storm_active", ["destination"]), "{{destination}}"),
        names=((0, "None", GOOD), (1, "Storm", WARN)),
        width=12,
        height=8,
    ),
    lines(
        "Watchdogs",
        "How long ago each was heard. What rises beyond its interval says that no alert arrives either.",
        Query(oldest("windsock_watchdog_last_heard_timestamp_seconds", ["watchdog"]), "{{watchdog}}"),
        unit="s",
    ),
    bars(
        "Requests to others",
        "To Alertmanager and Prometheus, by outcome. While one fails, messages are not amended by what it knows.",
        Query(increase("windsock_upstream_requests_total", ["upstream", "result"]), "{{upstream}} {{result}}"),
    ),
    bars(
        "Heartbeats",
        "Calls of the heartbeat's address. Withheld: Slack has granted nothing of late.",
        Query(increase("windsock_heartbeats_total", ["result"]), "{{result}}"),
    ),
    collapsed=True,
)
