"""The notifications of the channel: any text is parsed, and what pgreact sends is read back."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgreact.postgres.queries import folder
from pgreact.wakeup import notification
from pgreact.wakeup.notification import (
    CanaryChanged,
    RoutesChanged,
    RunChanged,
    SchedulesChanged,
    Signal,
    parse,
)

IDS = st.integers(0, 2**31 - 1)
STATES = st.sampled_from(["started", "done", "failed", "dropped"])


@pytest.mark.parametrize(
    ("payload", "parsed"),
    [
        ("7", Signal(7)),
        ("2147483647", Signal(2147483647)),
        ("2147483648", None),
        ("routes", RoutesChanged()),
        ("schedule", SchedulesChanged()),
        ("canary", CanaryChanged()),
        ("flight 7 a-b dropped", RunChanged(7, "a-b", "dropped")),
        ("flight 7 a-b lost", None),
        ("flight 2147483648 a-b done", None),
        ("routes ", None),
        ("", None),
    ],
)
def test_each_payload_has_one_meaning(payload: str, parsed: object) -> None:
    assert parse(payload) == parsed


@given(payload=st.text() | st.from_regex(r"(flight )?\d*( \S*)?( started| done)?\n?"))
@example("9" * 5000)
@example("²")
@example("٣")
@example("flight ٣ a done")
@example("flight 1 a done\n")
def test_any_text_is_parsed_without_an_error(payload: str) -> None:
    found = parse(payload)
    if isinstance(found, Signal):
        assert int(payload.split(maxsplit=1)[0]) == found.route_id
    if isinstance(found, RunChanged):
        assert notification.run_changed(*found) == payload or payload.split()[1].startswith("0")


@given(route_id=IDS, task_id=st.text(), state=STATES)
def test_a_run_is_read_back_as_it_was_reported(
    route_id: int, task_id: str, state: notification.RunState
) -> None:
    found = parse(notification.run_changed(route_id, task_id, state))
    carried = task_id if re.fullmatch(r"[^\s]{1,255}", task_id) else "-"
    assert found == RunChanged(route_id, carried, state)


def test_payloads_that_sql_sends_are_parsed() -> None:
    sources = [path.read_text() for path in (folder("sql")).rglob("*.sql")]
    # by a function, or by the trigger function that sends its arguments
    literals = {
        payload
        for source in sources
        for payload in re.findall(
            rf"(?:pg_notify|notify_change)\('{notification.CHANNEL}', '(.*?)'\)", source
        )
    }
    assert literals == {"routes", "schedule", "canary"}
    assert all(parse(payload) for payload in literals)
