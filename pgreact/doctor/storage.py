"""Storage: what keeps vacuum from its work, and whether it comes."""

from collections.abc import Iterator

from pgreact.doctor.checks import Finding, check, warn
from pgreact.doctor.facts import Facts, statement
from pgreact.quantities import format_duration

LONG = 300.0  # seconds that a transaction may keep rows
FAR = 1_000_000  # transactions that a slot or standby may lag behind
DEAD = 100_000  # dead rows of a table that are no matter
STALE = 600.0  # seconds since the last vacuum


@check("storage.xmin", "transactions, prepared transactions, slots and standbys that keep dead rows")
def xmin(facts: Facts) -> Iterator[Finding]:
    facts.require_statistics()
    for row in facts.rows("doctor_xmin"):
        kind, name, seconds = row["kind"], row["name"], row["seconds"]
        age = f"{row['transactions']} transactions"
        if kind in {"session", "prepared"}:
            if seconds is None or seconds <= LONG:
                continue
            since = format_duration(seconds, roughly=True)
        if kind == "session":
            yield warn(
                f"session {name} ({row['detail']}) is in a transaction for {since}: vacuum removes no row "
                "that died since",
                f"select pg_terminate_backend({name});",
            )
        elif kind == "prepared":
            yield warn(
                f'prepared transaction "{name}" of {row["detail"]} is open for {since}',
                statement("rollback prepared {};", name),
            )
        elif kind == "slot" and (not row["active"] or row["transactions"] > FAR):
            state = "lags" if row["active"] else "is used by nothing, and lags"
            yield warn(
                f"{row['detail']} replication slot {name} {state} by {age}",
                statement("select pg_drop_replication_slot({});", name),
            )
        elif kind == "standby" and row["transactions"] > FAR:
            yield warn(
                f"hot_standby_feedback of standby {name} ({row['detail']}) keeps the dead rows of {age}",
                f"alter system set hot_standby_feedback = off; select pg_reload_conf();   -- on {name}",
            )


@check("storage.dead_rows", "dead rows of the tables that every job goes through, and their last vacuum")
def dead_rows(facts: Facts) -> Iterator[Finding]:
    for row in facts.rows("doctor_tables"):
        vacuumed = row["vacuumed_s"]
        if row["dead"] > max(DEAD, row["live"]) and (vacuumed is None or vacuumed > STALE):
            last = "never" if vacuumed is None else f"{format_duration(vacuumed, roughly=True)} ago"
            yield warn(
                f"{row['table']}: {row['dead']} dead rows, {row['live']} live ones, last vacuumed {last}",
                f"vacuum (analyze) {row['table']};",
            )


@check("storage.autovacuum", "whether autovacuum is on, for the server and for pgreact's tables")
def autovacuum(facts: Facts) -> Iterator[Finding]:
    with facts.transaction() as connection:
        [(on,)] = connection.execute("select current_setting('autovacuum')::boolean").fetchall()
    if not on:
        yield warn("autovacuum is off", "alter system set autovacuum = on; select pg_reload_conf();")
    for row in facts.rows("doctor_tables"):
        if not row["autovacuum"]:
            yield warn(
                f"{row['table']}: autovacuum is off",
                f"alter table {row['table']} reset (autovacuum_enabled);",
            )
