"""The search for jobs: what each field finds, ranges, hidden values, and a cost that does not grow."""

from collections.abc import Iterator

import pytest

from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.postgres.connect import connect
from pgreact.queue.dead_groups import RANGE, dead_groups
from pgreact.queue.redaction import Redaction
from pgreact.web import job_search
from pgreact.web.bulk import ACTIONS, COUNTED, preview
from pgreact.web.job_filter import InvalidFilter, parse_filter
from tests.queue_steps import Queue, queue_database

RULES = Redaction({"shop.pay": ["card"]})


def found(queue: Queue, before: int | None = None, limit: int = 50, **fields: str) -> job_search.Found:
    with connect(queue.dsn) as connection:
        return job_search.search(
            connection, parse_filter(fields, RULES), RULES.tasks, before=before, limit=limit
        )


def ids(queue: Queue, **fields: str) -> list[int]:
    return [job["id"] for job in found(queue, **fields).jobs]


def jobs_of_all_states(steps: Queue) -> dict[str, int]:
    """Add a job of each state; return their ids."""
    dead = steps.add("t.dead", kwargs="""'{"user": {"id": 7}}'""")
    steps.claim()
    steps.start(dead)
    steps.settle(dead, "failed", "ValueError: no user 42\n  File x")
    running = steps.add("t.run", key="'k'", args="""'["paid", 3]'""")
    steps.claim()
    blocked = steps.add("t.wait", key="'k'")
    steps.claim()
    return {
        "dead": dead,
        "in_progress": running,
        "blocked": blocked,
        "delayed": steps.add("t.wait", run_at="now() + interval '1 h'"),
        "ready": steps.add("t.wait", kwargs="""'{"user": {"id": "7"}, "amount": 200}'"""),
    }


def test_each_field_finds_its_jobs(steps: Queue) -> None:
    job = jobs_of_all_states(steps)
    for state, number in job.items():
        assert ids(steps, state=state) == [number]
    assert ids(steps) == sorted(job.values(), reverse=True)
    assert ids(steps, task="t.wait") == [job["ready"], job["delayed"], job["blocked"]]
    assert ids(steps, task="t.?u*") == [job["in_progress"]]
    assert ids(steps, task="t_wait") == []
    assert ids(steps, lane="default", state="dead") == [job["dead"]]
    assert ids(steps, lane="other") == []
    assert ids(steps, key="k") == [job["blocked"], job["in_progress"]]
    assert ids(steps, error="NO USER") == [job["dead"]]
    assert ids(steps, error="no%42") == []
    assert ids(steps, pattern="ValueError: no user #") == [job["dead"]]
    assert ids(steps, id=str(job["delayed"])) == [job["delayed"]]
    assert ids(steps, id=steps.value("select task_id::text from pgreact.dead")) == [job["dead"]]


@pytest.mark.parametrize(
    ("search", "states"),
    [
        ("args.user.id:7", ["ready", "dead"]),
        ('user.id:"7"', ["ready"]),
        ("args.0:paid", ["in_progress"]),
        ("args.1:3", ["in_progress"]),
        ("$.kwargs.amount > 100", ["ready"]),
        ("$.kwargs.amount ? (@ > 100)", ["ready"]),
        ('$.args[*] starts with "pa"', ["in_progress"]),
        ("exists ($.kwargs.user)", ["ready", "dead"]),
        ("strict $.kwargs.amount == 200", ["ready"]),
        ("amount", ["ready"]),
    ],
)
def test_arguments_are_searched(steps: Queue, search: str, states: list[str]) -> None:
    job = jobs_of_all_states(steps)
    assert ids(steps, args=search) == [job[state] for state in states]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"state": "done"}, {"state": '"done" is no state; there are: ready, '}),
        ({"args": "user..id:1"}, {"args": "is no path with a value"}),
        ({"args": "$.kwargs.("}, {"args": "PostgreSQL: "}),
        ({"id": "x"}, {"id": "neither the number of a job nor the UUID"}),
        ({"id": "9" * 30}, {"id": "neither the number of a job"}),
        ({"task": "x" * 1001}, {"task": "more than 1000 characters"}),
        ({"lane": "a\0b"}, {"lane": "NUL"}),
        ({"task": "shop.pay", "args": "card:1"}, {"args": "that are hidden"}),
        ({"id": "x", "state": "y"}, {"id": "neither", "state": "is no state"}),
    ],
)
def test_wrong_field_is_named(steps: Queue, fields: dict[str, str], wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidFilter) as caught:
        found(steps, **fields)
    assert caught.value.fields.keys() == wrong.keys()
    assert all(said in caught.value.fields[name] for name, said in wrong.items())


def test_hidden_values_are_not_found(steps: Queue) -> None:
    pay = steps.add("shop.pay", kwargs="""'{"card": "4111", "n": 1}'""")
    other = steps.add("t", kwargs="""'{"card": "4111", "n": 1}'""")
    assert ids(steps, args="card:4111") == [other]
    assert ids(steps, args="$.**.card") == [other]
    assert ids(steps, args="n:1") == [other, pay]
    steps.run(f"update pgreact.queue set error = 'ValueError: 4111' where id in ({pay}, {other})")
    assert ids(steps, error="4111") == [other]
    assert ids(steps, error="ValueError") == [other, pay]
    assert [job["error"] for job in found(steps).jobs] == ["ValueError: 4111", "ValueError"]


def test_pages_follow_each_other(steps: Queue) -> None:
    jobs = [steps.add() for _ in range(5)]
    first = found(steps, limit=2)
    second = found(steps, before=first.before, limit=2)
    last = found(steps, before=second.before, limit=2)
    assert [[job["id"] for job in page.jobs] for page in (first, second, last)] == [
        jobs[:2:-1],
        jobs[2:0:-1],
        jobs[:1],
    ]
    assert (first.full, last.full, last.before) == (True, False, None)


def test_search_continues_where_its_range_ended(steps: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_search, "RANGE", 3)
    wanted = steps.add("rare")
    for _ in range(5):
        steps.add()
    ranges = [found(steps, task="rare")]
    while ranges[-1].before is not None:
        assert not ranges[-1].full
        ranges.append(found(steps, before=ranges[-1].before, task="rare"))
    assert [len(each.jobs) for each in ranges] == [0, 1]
    assert ranges[-1].jobs[0]["id"] == wanted


def test_index_finds_what_lies_before_the_range(steps: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_search, "RANGE", 3)
    steps.run("insert into pgreact.lane (name) values ('rare')")
    by_key, in_lane = steps.add(key="'k'"), steps.add(lane="'rare'")
    for _ in range(6):
        steps.add()
    assert (ids(steps, key="k"), ids(steps, lane="rare")) == ([by_key], [in_lane])
    assert ids(steps, id=str(by_key)) == [by_key]


# rows that this transaction has read
READ = (
    "select sum(seq_tup_read + idx_tup_fetch)::bigint from pg_stat_xact_user_tables "
    "where relid in ('pgreact.queue'::regclass, 'pgreact.in_progress'::regclass, 'pgreact.dead'::regclass)"
)


# ---- cost --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(postgres: EmbeddedPostgres) -> Iterator[Queue]:
    """A queue with 200,000 jobs, one of them in another lane, and 30,000 dead ones."""
    with queue_database(postgres) as queue:
        with queue.connect() as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(
                """
                insert into pgreact.queue (lane, task, key)
                select case n when 5 then 'rare' else 'default' end, 't', case n when 7 then 'k' end
                from generate_series(1, 200000) n
                """
            )
            connection.execute(
                """
                insert into pgreact.dead (id, lane, task, args, kwargs, priority, attempt, max_attempts,
                    backoff, options, enqueued_at, outcome, error)
                select n, 'default', 't', '[]', '{}', 0, 1, 1, '1 s', '{}', now(), 'failed',
                    'ValueError: user ' || n || ' of "shop" is unknown, see 0x' || to_hex(n)
                from generate_series(2000001, 2030000) n
                """
            )
            connection.execute("analyze pgreact.queue, pgreact.dead")
        yield queue


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"task": "none"},
        {"args": "user.id:1"},
        {"error": "none"},
        {"lane": "rare"},
        {"lane": "default", "task": "none"},
        {"key": "k"},
        {"state": "blocked"},
        {"id": "7"},
        {"id": "00000000-0000-0000-0000-000000000000"},
    ],
)
def test_search_in_a_large_queue_reads_a_range(many: Queue, fields: dict[str, str]) -> None:
    with connect(many.dsn) as connection, connection.transaction():
        job_search.search(connection, parse_filter(fields, RULES), [])
        [[read]] = connection.execute(READ).fetchall()
    assert read <= 5 * job_search.RANGE


def test_groups_of_dead_jobs_read_a_range(many: Queue) -> None:
    with connect(many.dsn) as connection, connection.transaction():
        found = dead_groups(connection, [])
        [[read]] = connection.execute(READ).fetchall()
    assert read <= RANGE
    assert (found.jobs, found.complete) == (RANGE, False)
    assert [group.pattern for group in found.groups] == ["ValueError: user # of # is unknown, see #"]


def test_preview_of_a_large_queue_counts_up_to_a_limit(many: Queue) -> None:
    with connect(many.dsn) as connection, connection.transaction():
        found = preview(connection, ACTIONS["cancel"], parse_filter({}, RULES), [])
        [[read]] = connection.execute(READ).fetchall()
    assert read <= 5 * job_search.RANGE
    assert (found.count, found.exact) == (COUNTED, False)
