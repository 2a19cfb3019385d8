"""The queue in single steps: calls of pgreact's SQL functions in place of a leader and workers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pgreact.demo.postgres import EmbeddedPostgres
from tests.harness import Database, fresh_database, install


class Queue(Database):
    """A database with a queue, with methods that call its SQL functions."""

    measures = False  # whether tasks may become short, by how soon a test settles what it started

    def add(self, task: str = "t", **arguments: object) -> int:
        """Enqueue a job into lane default; the arguments are SQL expressions."""
        arguments.setdefault("lane", "'default'")
        given = ", ".join(f"{name} => {value}" for name, value in arguments.items())
        found: int = self.value(f"select pgreact.enqueue('{task}'{', ' if given else ''}{given})")
        return found

    def claim(self, batch: int = 100) -> dict[str, Any]:
        """Claim."""
        answer: dict[str, Any] = self.value(f"select pgreact.claim({batch})")
        return answer

    def claimed(self, batch: int = 100) -> list[int]:
        """Claim; return the ids in order."""
        return [job["id"] for job in self.claim(batch)["jobs"]]

    def lanes(self, batch: int = 100) -> list[str]:
        """Claim; return the lanes of the jobs."""
        return [job["lane"] for job in self.claim(batch)["jobs"]]

    def start(self, job: int, retries: int = 0) -> bool:
        """Start a job as a worker does."""
        found: bool = self.value(
            "select pgreact.start(id, claim_id, %s, 'w') is not null from pgreact.in_progress where id = %s",
            retries,
            job,
        )
        return found

    def settle(self, job: int, outcome: str = "done", error: str | None = None) -> bool:
        """Settle a job as a worker does; how long these steps took does not make its task a short one."""
        with self.connect() as connection:
            row = connection.execute(
                "select pgreact.settle(id, claim_id, %s, %s) from pgreact.in_progress where id = %s",
                (outcome, error, job),
            ).fetchone()
            if not self.measures:
                connection.execute("update pgreact.task set run_s = null where run_s is not null")
        return bool(row and row[0])

    def state(self, job: int) -> str | None:
        """Return a job's state, or its outcome if it is dead."""
        found: str | None = self.value(
            "select state from pgreact.queue where id = %(id)s union all "
            "select 'in progress' from pgreact.in_progress where id = %(id)s union all "
            "select outcome from pgreact.dead where id = %(id)s".replace("%(id)s", str(job))
        )
        return found

    def empty(self) -> None:
        """Remove all jobs, all lanes but the default one, and every limit."""
        self.run(
            "truncate pgreact.queue, pgreact.in_progress, pgreact.dead, pgreact.history, "
            "pgreact.history_rest, pgreact.contested_key, pgreact.lane_state, pgreact.result, "
            "pgreact.settled, pgreact.tally, pgreact.tally_hour, pgreact.tally_total restart identity",
            "update pgreact.queue_state set virtual_time = 0, floors = null, full_read_at = null",
            "delete from pgreact.task",
            # the leader's routing of the tasks that tests enqueue by their own SQL
            "insert into pgreact.task (name, queue) select name, 'default' from unnest('{t,warm,dead,running,"
            "silent,waiting,lapsed,claimed,ready,delayed,expired}'::text[]) name",
            "delete from pgreact.lane where name <> 'default'",
            "update pgreact.lane set max_in_progress = null, max_unstarted = 200, max_lost = 3, weight = 1, "
            "rate = null, burst = 1, paused = false, bundle = null, tasks = null",
            "update pgreact.queue_setting set max_in_progress = null, lease = '60 s', retention = null,"
            " dead_retention = null",
        )


@contextmanager
def queue_database(server: EmbeddedPostgres) -> Iterator[Queue]:
    """A new database with a queue."""
    with fresh_database(server) as database:
        found = Queue(database.dsn)
        install(found, {})
        found.empty()
        yield found
