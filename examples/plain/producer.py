"""Commit jobs, one by one and in bursts: ``python producer.py [COMMITS]``."""

import os
import random
import sys
import time

import psycopg

with psycopg.connect(os.environ.get("PROJ_DSN", ""), autocommit=True) as connection:
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 50):
        jobs = random.choice([1, 1, 1, 1, 5, 20])
        # One statement is one transaction and one signal, for any number of rows.
        connection.execute(
            """insert into job_queue (payload)
               select jsonb_build_object('seconds', 0.02 + 0.06 * random()) from generate_series(1, %s)""",
            (jobs,),
        )
        print(f"committed {jobs} job{'s' if jobs > 1 else ''}", flush=True)
        time.sleep(random.uniform(0.1, 1))
