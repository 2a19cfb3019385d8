with written as (
    insert into pgreact.flight as f (
        route_id, dispatches, task_id, published_at, signals, waited_ms, dirty_since, in_flight_since, error,
        gate, gate_since, unstarted_since, updated_at
    )
    select
        r.id, s.dispatches, s.task_id, now() - make_interval(secs => s.published_ago), s.signals, s.waited_ms,
        now() - make_interval(secs => s.dirty_for), now() - make_interval(secs => s.in_flight_for), s.error,
        s.gate, now() - make_interval(secs => s.gate_for), now() - make_interval(secs => s.unstarted_for), now()
    from jsonb_to_recordset($1::jsonb) as s (
        route_id integer, dispatches bigint, task_id text, published_ago float8, signals integer, waited_ms float8,
        dirty_for float8, in_flight_for float8, error text, gate text, gate_for float8, unstarted_for float8
    )
    -- without routes that were deleted meanwhile
    join pgreact.route as r on r.id = s.route_id
    on conflict (route_id) do update set
        dispatches = f.dispatches + excluded.dispatches,
        task_id = coalesce(excluded.task_id, f.task_id),
        published_at = coalesce(excluded.published_at, f.published_at),
        signals = coalesce(excluded.signals, f.signals),
        waited_ms = coalesce(excluded.waited_ms, f.waited_ms),
        dirty_since = excluded.dirty_since,
        in_flight_since = excluded.in_flight_since,
        error = excluded.error,
        gate = excluded.gate,
        gate_since = excluded.gate_since,
        unstarted_since = excluded.unstarted_since,
        updated_at = excluded.updated_at
)
-- pages and terminals read again
select pg_notify('pgreact_live', 'flight') where pg_notification_queue_usage() < 0.5
