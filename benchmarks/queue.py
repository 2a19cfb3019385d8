"""The queue: latency, throughput, cost of a claim, growth of the tables."""

import dataclasses
from contextlib import ExitStack

from benchmarks import claims, queue_growth, queue_latency, queue_rate
from benchmarks.marks import Marks
from benchmarks.processes import Workshop
from benchmarks.queue_sides import bare_side, celery_sides, peer_sides, pool_sides
from benchmarks.report import Report
from pgreact.demo.postgres import EmbeddedPostgres
from tests.servers import rabbitmq_server, redis_server


@dataclasses.dataclass(frozen=True)
class Size:
    """The number of samples."""

    rounds: int  # of latencies
    jobs: int  # in each round, for each side
    rate_rounds: int
    rate_jobs: int  # in each round; fast sides get more, see `MANY`


FULL = Size(rounds=5, jobs=30, rate_rounds=5, rate_jobs=2500)
QUICK = Size(rounds=2, jobs=6, rate_rounds=1, rate_jobs=800)
MANY = {"pgreact": 8, "pgqueuer": 6}  # times the jobs of the others, so that each runs for some seconds


def run(report: Report, *, quick: bool) -> None:
    """Measure, and print the results."""
    size = QUICK if quick else FULL
    with ExitStack() as stack:
        workshop = stack.enter_context(Workshop())
        postgres = stack.enter_context(EmbeddedPostgres(settings={"shared_buffers": "128MB"}))
        report.note(f"PostgreSQL {postgres.major}, fsync = off; Redis; RabbitMQ with publisher confirms")
        if not quick:
            _on_rabbitmq(report, workshop, postgres, size)
        _on_redis(report, workshop, postgres, size)
    claims.run(report, quick=quick)
    queue_growth.run(report, quick=quick)


def _on_rabbitmq(report: Report, workshop: Workshop, postgres: EmbeddedPostgres, size: Size) -> None:
    place = workshop.directory / "marks-rabbitmq"
    with (
        rabbitmq_server() as broker,
        Marks(place) as marks,
        celery_sides(workshop, postgres, broker.url, place, "on_rabbitmq") as sides,
    ):
        with bare_side(workshop, postgres.dsn("on_rabbitmq"), broker.url) as bare:
            alone = {name: side for name, side in {**sides, **bare}.items() if name != "single"}
            queue_latency.warm_up(alone, marks)
            found = queue_latency.measure(alone, marks, rounds=size.rounds, jobs=size.jobs)
        queue_latency.print_latencies(report, "RabbitMQ", found)


def _on_redis(report: Report, workshop: Workshop, postgres: EmbeddedPostgres, size: Size) -> None:
    place = workshop.directory / "marks-redis"
    with (
        redis_server() as broker,
        Marks(place) as marks,
        celery_sides(workshop, postgres, broker.url, place, "on_redis") as celery,
        peer_sides(workshop, postgres, place) as peers,
    ):
        sides = {**celery, **peers}
        dsn = postgres.dsn("on_redis")
        with (
            pool_sides(workshop, dsn, broker.url, place) as pools,
            bare_side(workshop, dsn, broker.url) as bare,
        ):
            alone = {name: side for name, side in {**sides, **pools, **bare}.items() if name != "single"}
            queue_latency.warm_up(alone, marks)
            latencies = queue_latency.measure(alone, marks, rounds=size.rounds, jobs=size.jobs)
        queue_latency.print_latencies(report, "Redis", latencies)
        queue_rate.warm_up(sides, marks, broker.url)
        rates = queue_rate.measure(
            sides,
            marks,
            broker.url,
            rounds=size.rate_rounds,
            jobs={side: size.rate_jobs * MANY.get(side, 1) for side in sides},
        )
        queue_rate.print_rates(report, rates)
