"""``python -m benchmarks NAME [--quick]``."""

import argparse
import importlib
import sys

from benchmarks.report import Report
from pgreact.errors import PgreactError
from tests.servers import Missing

# each is a module with run(report, *, quick, …), and add_options(parser) if it has further options
BENCHES = {
    "wakeup": "commit to message, a burst, an idle minute; beside a bare pair and Celery Beat (3 minutes)",
    "writers": "commits a second with and without pgreact's triggers, on two flushes (4 minutes)",
    "enqueue": "enqueue in a transaction, beside a plain insert; 1000 jobs a statement (2 minutes)",
    "queue": "jobs: commit to start, jobs a second, claims, sizes; beside delay() and two peers (5 minutes)",
    "claims": "the claims of queue alone: 10⁷ rows, a hot key, lanes with limits (3 minutes)",
    "bundles": "bundles: short jobs among long ones, lanes with limits, an old snapshot (4 minutes)",
    "recovery": "kill -9 of workers under load: the rate, the jobs and their attempts afterwards (2 minutes)",
    "operate": "metrics, pages and the tally: their cost, and their times with 10⁷ jobs (10 minutes)",
    "timetable": "schedules: start, idle, all due, edits, takeover; beside Beat and two peers (5 minutes)",
    "timetable_million": "a million schedules beside a thousand: start, idle, edits, views (5 minutes)",
    "timetable_whole": "timetable with 100 000 entries on all sides, without estimates (an hour)",
    "scale": "jobs a second of one leader and 1 to 64 worker machines, by simulation (10 seconds)",
    "soak": "a cluster under load and faults: jobs lost, doubled, delayed (20 minutes)",
    "flights": "single_flight = run under 1000 signals a second: overlaps, waiting runs, missed signals",
}


def main() -> int:
    """Run one bench; exit 0 if every bar was met, 1 if not, 2 if it could not run."""
    parser = argparse.ArgumentParser(
        prog="./run bench",
        epilog="benches:\n" + "\n".join(f"  {name:18}{what}" for name, what in BENCHES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bench", choices=BENCHES, metavar="NAME", help="see below")
    parser.add_argument("--quick", action="store_true", help="take fewer samples, in less than a minute")
    chosen, _ = parser.parse_known_args()
    module = importlib.import_module(f"benchmarks.{chosen.bench}")
    if hasattr(module, "add_options"):
        module.add_options(parser)
    arguments = vars(parser.parse_args())
    del arguments["bench"]
    report = Report()
    try:
        module.run(report, **arguments)
    except Missing as missing:
        print(f"bench: not installed here: {missing}", file=sys.stderr)
        return 2
    except PgreactError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return report.verdict()


if __name__ == "__main__":
    sys.exit(main())
