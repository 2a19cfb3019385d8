"""Why a job does not run: what ``pgreact.why_job`` found by the rules of the claim, in words."""

import datetime
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pgreact.dispatch.route import QUEUE_ROUTE
from pgreact.errors import argument, quoted
from pgreact.postgres.change import Connection
from pgreact.postgres.queries import query
from pgreact.quantities import format_count, format_duration, format_rate

START = 'start one with "pgreact listen"'
_TIMES = ("since", "known_at", "started_at", "lease_until", "expires")
_FIRST = datetime.datetime.min.replace(tzinfo=datetime.UTC)
_LAST = datetime.datetime.max.replace(tzinfo=datetime.UTC)
_UNANSWERED = {
    "unconsumed": "no worker seems to consume the queue",
    "passed over": "a worker takes these messages and cannot run them: does it call pgreact.setup?",
    "busy": "the workers are busy",
}
_VERDICTS = {
    "waits": "waits: ",
    "next": "",
    "claimed": "",
    "published": "",
    "running": "",
    "dead": "",
    "settled": "",
    "unknown": "",
}

Facts = Mapping[str, Any]


def why(connection: Connection, job_id: int) -> dict[str, Any]:
    """Explain why a job does not run. It only reads, and its cost does not grow with the queue.

    Args:
        connection: Any session on the database.
        job_id: The job's id; it may be unknown.

    Returns:
        ``job``: its ``id``, ``state``, ``task``, ``lane``, ``key`` and ``attempt``, those that are known;
        ``verdict``: ``waits``, ``next``, ``claimed``, ``published``, ``running``, ``dead``, ``settled`` or
        ``unknown``; ``causes``: in the order in which they have to go, each with a ``code`` (see
        ``sql/functions/why_job.sql``), a ``text`` for people, ``known_at`` (when it is known to change, else
        ``None``) and its ``facts``; ``runs_next``: whether the next claim takes it.
    """
    [[found]] = connection.execute(query("why_job").encode(), {"job": job_id}).fetchall()
    now = datetime.datetime.fromisoformat(found["at"])
    found["job"]["id"] = job_id
    causes = [_cause(facts, found["job"], now) for facts in _with_times(found["causes"])]
    return {
        "job": found["job"],
        "verdict": found["verdict"],
        "causes": causes,
        "runs_next": found["runs_next"],
    }


def lines(found: Facts) -> Iterator[str]:
    """Return the answer for people: one sentence.

    Args:
        found: The result of :func:`why`.
    """
    job = found["job"]
    about = [quoted(job["task"])] if job.get("task") else []
    about += [f"lane {quoted(job['lane'])}"] if job.get("lane") else []
    name = f"job {job['id']}" + (f" ({', '.join(about)})" if about else "")
    yield f"{name} {_VERDICTS[found['verdict']]}{'; then '.join(cause['text'] for cause in found['causes'])}"


def _cause(facts: dict[str, Any], job: Facts, now: datetime.datetime) -> dict[str, Any]:
    facts = dict(facts)
    code, known_at = facts.pop("code"), facts.pop("known_at", None)
    text = _TEXTS[code]({**facts, "known_at": known_at}, job, now)
    return {"code": code, "text": text, "known_at": known_at, "facts": facts}


def _with_times(causes: Any) -> list[dict[str, Any]]:
    """Return causes with their times as times."""
    return [{key: _time(value) if key in _TIMES else value for key, value in each.items()} for each in causes]


def _time(value: str | None) -> datetime.datetime | None:
    """Return a time of JSON; one beyond Python's calendar as its nearest."""
    if value is None:
        return None
    try:
        return datetime.datetime.fromisoformat(value)
    except ValueError:
        early = value.startswith("-") or value.endswith("BC")
        return _FIRST if early else _LAST


def ago(then: datetime.datetime | None, now: datetime.datetime) -> str:
    """Return how long ago a time was."""
    return "an unknown time" if then is None else format_duration((now - then).total_seconds(), roughly=True)


def until(then: datetime.datetime | None, now: datetime.datetime) -> str:
    """Return in how long a time comes; below 10 s by tenths."""
    if then is None:
        return "an unknown time"
    seconds = max(0.0, (then - now).total_seconds())
    return f"{seconds:.1f}s" if seconds < 10 else format_duration(seconds, roughly=True)


def _clock(moment: datetime.datetime) -> str:
    return moment.astimezone().isoformat(" ", "seconds")


def _jobs(number: int) -> str:
    return f"{format_count(number)} job{'' if number == 1 else 's'}"


def _unanswered(facts: Facts) -> str:
    verdict = _UNANSWERED.get(facts["unanswered"] or "")
    return f": {verdict}" if verdict else ""


def _expired(facts: Facts, _job: Facts, _now: datetime.datetime) -> str:
    return f"expires at {_clock(facts['since'])} without a start: the claim that finds it settles it as dead"


def _delayed(facts: Facts, _job: Facts, now: datetime.datetime) -> str:
    when = f"until {_clock(facts['known_at'])}, in {until(facts['known_at'], now)}"
    again = f", to try again after attempt {facts['attempt']}" if facts["retry"] else ""
    error = f" ({_cut(facts['error'])})" if facts["error"] else ""
    return f"delayed {when}{again}{error}"


def _key(facts: Facts, _job: Facts, now: datetime.datetime) -> str:
    head = facts["head"]
    between = f", with {_jobs(facts['between'])} of the key between them" if facts["between"] else ""
    inner = [_cause(cause, head["job"], now)["text"] for cause in _with_times(head["causes"])]
    verb = {"waits": "waits: "}.get(head["verdict"], "")
    ahead = f"job {head['job']['id']} of key {quoted(facts['key'])}{between}"
    return f"behind {ahead}, which {verb}{'; '.join(inner)}"


def _paused(facts: Facts, job: Facts, now: datetime.datetime) -> str:
    since = f" for {ago(facts['since'], now)}, by {facts['actor']}" if facts["since"] else ""
    end = f'"pgreact queue resume {argument(job["lane"])}"'
    return f"lane {quoted(job['lane'])} is paused{since}: {end} ends that"


def _lane_full(facts: Facts, job: Facts, now: datetime.datetime) -> str:
    longest = [
        f"job {each['job']} on {each['worker']} for {ago(_time(each['since']), now)}"
        for each in facts["longest"] or []
    ]
    running = f" (longest: {', '.join(longest)})" if longest else ""
    return f"lane {quoted(job['lane'])}: {facts['in_progress']} of {facts['max']} places taken{running}"


def _unstarted(facts: Facts, job: Facts, _now: datetime.datetime) -> str:
    taken = f"{facts['unstarted']} of {facts['max']} messages wait for a worker (max_unstarted)"
    return f"lane {quoted(job['lane'])}: {taken}{_unanswered(facts)}"


def _rate(facts: Facts, job: Facts, now: datetime.datetime) -> str:
    rate = format_rate(facts["rate"])
    return f"lane {quoted(job['lane'])}: next token in {until(facts['known_at'], now)} (rate {rate})"


def _order(facts: Facts, job: Facts, _now: datetime.datetime) -> str:
    return f"behind {_jobs(facts['jobs'])} of lane {quoted(job['lane'])} by priority and time"


def _fair_share(facts: Facts, _job: Facts, _now: datetime.datetime) -> str:
    others = f"{facts['others']} other lane{'' if facts['others'] == 1 else 's'}"
    return f"the next claim takes {_jobs(facts['jobs'])}, by fair shares with {others}"


def _next(facts: Facts, _job: Facts, now: datetime.datetime) -> str:
    since = f"ready for {ago(facts['since'], now)}"
    return f"runs next: the next claim takes it ({since}, {_jobs(facts['ahead'])} of its lane before it)"


def _claimed(facts: Facts, _job: Facts, now: datetime.datetime) -> str:
    again = f" again, after {facts['sent']} messages that no worker started" if facts["sent"] else ""
    return f"was claimed {ago(facts['since'], now)} ago, and its message is not published{again} yet"


def _published(facts: Facts, _job: Facts, now: datetime.datetime) -> str:
    times = f"sent {facts['sent']} times, last " if facts["sent"] > 1 else "sent "
    queue = f"Celery queue {quoted(facts['queue'])}" if facts["queue"] else "its Celery queue"
    end = "expires" if facts["known_at"] == facts["expires"] else "is sent again"
    then = f"; without a start it {end} in {until(facts['known_at'], now)}"
    return f"waits for a worker in {queue}: {times}{ago(facts['since'], now)} ago{then}{_unanswered(facts)}"


def _running(facts: Facts, _job: Facts, now: datetime.datetime) -> str:
    return f"runs on {facts['worker']} for {ago(facts['since'], now)}"


def _lease_ended(facts: Facts, _job: Facts, now: datetime.datetime) -> str:
    ended = f"its worker has not renewed its lease, which ended {ago(facts['since'], now)} ago"
    return f"{ended}: the next claim counts it as lost"


def _dead(facts: Facts, job: Facts, now: datetime.datetime) -> str:
    error = f": {_cut(facts['error'])}" if facts["error"] else ""
    remedy = f'"pgreact queue retry {job["id"]}" queues it again'
    return f"died {ago(facts['since'], now)} ago, {facts['outcome']}{error}; {remedy}"


def _settled(facts: Facts, job: Facts, now: datetime.datetime) -> str:
    error = f": {_cut(facts['error'])}" if facts["error"] else ""
    worker = f" on {facts['worker']}" if facts["worker"] else ""
    attempt = f" in attempt {job['attempt']}" if job["attempt"] > 1 else ""
    return f"ended {ago(facts['since'], now)} ago{worker}{attempt}: {facts['outcome']}{error}"


def _unknown(facts: Facts, _job: Facts, _now: datetime.datetime) -> str:
    if not facts["existed"]:
        return "never existed: no id is that high yet"
    if facts["retention_s"] is None:
        return "is not there: it has settled, or its enqueue was rolled back; no history is kept (retention)"
    kept = format_duration(facts["retention_s"])
    return f"is not there: it settled more than {kept} ago (retention), or its enqueue was rolled back"


def _trigger(facts: Facts, _job: Facts, _now: datetime.datetime) -> str:
    sweep = (
        f"only the sweep, each {format_duration(facts['sweep_s'])}, finds it"
        if facts["sweep_s"]
        else "the leader does not hear of it"
    )
    trigger = f"the trigger for {facts['event']} on {facts['table']} is {facts['state']}"
    return f'{trigger}, so {sweep}: run "pgreact apply"'


def _failing(facts: Facts, _job: Facts, now: datetime.datetime) -> str:
    return f"the leader fails at {facts['subject']}, for {ago(facts['since'], now)}: {_cut(facts['error'])}"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:199]}…"


_TEXTS: dict[str, Callable[[Facts, Facts, datetime.datetime], str]] = {
    "no_leader": lambda *_: f"no daemon leads, so nothing is claimed: {START}",
    "dispatch_failing": lambda facts, *_: (
        f"the leader cannot dispatch route {QUEUE_ROUTE}, and tries again: {_cut(facts['error'])}"
    ),
    "leader_failing": _failing,
    "trigger": _trigger,
    "expired": _expired,
    "delayed": _delayed,
    "due": lambda facts, _job, now: (
        f"its time came {ago(facts['since'], now)} ago: the next claim makes it ready"
    ),
    "key": _key,
    "unblocking": lambda facts, *_: (
        f"the job ahead of key {quoted(facts['key'])} is gone: the next claim makes this one ready"
    ),
    "unrouted": lambda facts, *_: (
        f"without a lane: the leader has yet to ask the application for the Celery queue of {facts['task']}"
    ),
    "paused": _paused,
    "lane_full": _lane_full,
    "unstarted": _unstarted,
    "rate": _rate,
    "queue_full": lambda facts, *_: (
        f"the queue: {facts['in_progress']} of {facts['max']} places taken in all lanes"
    ),
    "bytes": lambda facts, *_: (
        f"{facts['bytes']} bytes of arguments wait to be published, the limit is {facts['max']}"
    ),
    "order": _order,
    "fair_share": _fair_share,
    "next": _next,
    "claimed": _claimed,
    "published": _published,
    "running": _running,
    "lease_ended": _lease_ended,
    "dead": _dead,
    "settled": _settled,
    "unknown": _unknown,
}
