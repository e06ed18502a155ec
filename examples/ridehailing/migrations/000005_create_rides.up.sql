-- The heart of it: one row per request, whatever became of it.
create type ride_status as enum ('requested', 'accepted', 'in_progress', 'completed', 'cancelled');

set local lock_timeout = '3s';
create table rides (
    id uuid primary key default gen_random_uuid(),
    rider_id uuid not null references users,
    driver_id uuid references drivers (user_id), -- a user's id, and one that drives
    status ride_status not null default 'requested',
    pickup_latitude numeric(10, 8) not null,
    pickup_longitude numeric(11, 8) not null,
    pickup_address text not null,
    dropoff_latitude numeric(10, 8) not null,
    dropoff_longitude numeric(11, 8) not null,
    dropoff_address text not null,
    estimated_distance numeric(10, 2) not null,
    estimated_duration integer not null,
    estimated_fare numeric(10, 2) not null,
    actual_distance numeric(10, 2),
    actual_duration integer,
    final_fare numeric(10, 2),
    surge_multiplier numeric(3, 2) not null default 1,
    discount_amount numeric(10, 2) not null default 0,
    is_scheduled boolean not null default false,
    scheduled_at timestamptz,
    requested_at timestamptz not null default now(),
    accepted_at timestamptz,
    started_at timestamptz,
    completed_at timestamptz,
    cancelled_at timestamptz,
    cancellation_reason text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint rides_places_check check (
        pickup_latitude between -90 and 90 and dropoff_latitude between -90 and 90
        and pickup_longitude between -180 and 180 and dropoff_longitude between -180 and 180
    ),
    constraint rides_estimate_check check (
        estimated_distance >= 0 and estimated_duration >= 0 and estimated_fare >= 0
    ),
    constraint rides_surge_check check (surge_multiplier >= 1),
    constraint rides_discount_check check (discount_amount between 0 and coalesce(final_fare, estimated_fare)),
    constraint rides_driver_check check (driver_id is not null or status in ('requested', 'cancelled')),
    constraint rides_times_check check (
        accepted_at >= requested_at and started_at >= accepted_at and completed_at >= started_at
        and cancelled_at >= requested_at
    ),
    constraint rides_completed_check check (
        (status = 'completed') = (completed_at is not null)
        and (status <> 'completed' or num_nulls(actual_distance, actual_duration, final_fare) = 0)
    ),
    constraint rides_cancelled_check check (
        (status = 'cancelled') = (cancelled_at is not null and cancellation_reason is not null)
    ),
    constraint rides_scheduled_check check (is_scheduled = (scheduled_at is not null))
);
create trigger rides_touch before update on rides
    for each row when (old.* is distinct from new.*) execute function touch_updated_at();

comment on table rides is 'One row per request, whatever became of it';
comment on column rides.estimated_distance is 'Kilometres on the road';
comment on column rides.estimated_duration is 'Minutes';
comment on column rides.final_fare is 'Before the discount; payments.amount is what was paid';
