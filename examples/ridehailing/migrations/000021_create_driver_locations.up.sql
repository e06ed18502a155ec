-- The table that grows: ten to fifty rows per ride. Partitioned by day, so that an old day is dropped, not deleted.
set local lock_timeout = '3s';
create table driver_locations (
    driver_id uuid not null references drivers on delete cascade,
    latitude numeric(10, 8) not null,
    longitude numeric(11, 8) not null,
    position point generated always as (point(longitude::float8, latitude::float8)) stored,
    accuracy numeric(6, 2),
    speed numeric(6, 2),
    heading numeric(5, 2),
    recorded_at timestamptz not null,
    primary key (driver_id, recorded_at),
    constraint driver_locations_place_check check (latitude between -90 and 90 and longitude between -180 and 180),
    constraint driver_locations_speed_check check (speed >= 0),
    constraint driver_locations_heading_check check (heading >= 0 and heading < 360)
) partition by range (recorded_at);
create index driver_locations_recorded on driver_locations using brin (recorded_at);
create index driver_locations_position on driver_locations using gist (position);
create table driver_locations_default partition of driver_locations default;

create function create_driver_locations_day(day date) returns text
    language plpgsql
as $$
declare
    partition text := 'driver_locations_' || to_char(day, 'YYYYMMDD');
begin
    execute format(
        'create table if not exists %I partition of driver_locations for values from (%L) to (%L)',
        partition, day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC'
    );
    return partition;
end
$$;

comment on table driver_locations is 'Where drivers were; one partition per day, and one for what has no day yet';
comment on function create_driver_locations_day(date) is 'Makes the partition of a day (UTC), if missing, and says its name';
