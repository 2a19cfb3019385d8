-- The application's tables. pgreact adds triggers to the first two, and changes nothing else.

create table job_queue (
    id bigint generated always as identity primary key,
    payload jsonb not null default '{}'
);

create table in_progress (
    job_id bigint primary key,
    payload jsonb not null,
    claimed_at timestamptz not null default now()
);

create table job_done (
    job_id bigint primary key,
    started_at timestamptz not null,
    finished_at timestamptz not null default clock_timestamp()
);
