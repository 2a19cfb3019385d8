"""The query by which ``deploy/keda`` scales workers, by a role of kind monitor."""

import re
from pathlib import Path
from uuid import uuid4

import psycopg
import yaml

from tests.queue_steps import Queue

KEDA = Path(__file__).parents[3] / "deploy/keda/scaledobject.yaml"


def test_scaler_counts_ready_jobs_and_those_in_progress_of_its_lane(steps: Queue) -> None:
    _, scaled = yaml.safe_load_all(KEDA.read_text("utf-8"))
    [trigger] = scaled["spec"]["triggers"]
    role = f"scaler_{uuid4().hex[:12]}"
    steps.run(
        "insert into pgreact.lane (name, max_in_progress) values ('mail', 1)",
        f"create role {role} {steps.login}",
        f"select pgreact.grant_role('{role}', 'monitor')",
    )
    for lane in ("mail", "mail", "mail", "default"):
        steps.add(lane=f"'{lane}'")
    steps.add(lane="'mail'", run_at="now() + interval '1 hour'")
    with psycopg.connect(re.sub("//[^:]+:", f"//{role}:", steps.dsn), autocommit=True) as scaler:

        def load() -> list[tuple[int]]:
            return scaler.execute(trigger["metadata"]["query"]).fetchall()

        assert load() == [(3,)]
        first, *_ = steps.claimed()
        assert load() == [(3,)]
        steps.start(first)
        steps.settle(first)
        assert load() == [(2,)]
