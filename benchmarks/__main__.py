"""Usage: python -m benchmarks [--dry-run] [NAME…]: measures these parts, or all, one after the other."""

from __future__ import annotations

import argparse
import sys
import time

from . import accounting, broker, dashboards, database, endpoint, failures, machine, page, router, storm

PARTS = {
    "endpoint": endpoint.measure,
    "broker": broker.measure,
    "accounting": accounting.measure,
    "database": database.measure,
    "router": router.measure,
    "storm": storm.measure,
    "failures": failures.measure,
    "dashboards": dashboards.measure,
}


def main() -> int:
    """Print each part's figures and write them into the page; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("parts", nargs="*", metavar="NAME", help=f"of {', '.join(PARTS)}; without one: all")
    parser.add_argument("--dry-run", action="store_true", help="leave docs/benchmarks.md as it is")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    missed = False
    for name in options.parts or PARTS:
        facts, started = machine.facts(), time.monotonic()
        result = PARTS[name]()
        text = page.section(name, result, facts, time.monotonic() - started)
        print(f"\n## {name}\n\n{text}", flush=True)
        missed |= not all(goal.met for goal in result.goals)
        if not options.dry_run:
            page.write(name, text)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
