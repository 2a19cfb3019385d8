"""The task ids of direct delivery."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from pgreact.timetable.delivery import _TASK_IDS, task_id


@given(st.integers(1, 2**63 - 1), st.datetimes())
def test_a_task_id_is_the_uuid5_of_schedule_and_occurrence(schedule: int, occurrence: object) -> None:
    named = str(occurrence)
    assert task_id(schedule, named) == str(uuid.uuid5(_TASK_IDS, f"{schedule}/{named}"))
