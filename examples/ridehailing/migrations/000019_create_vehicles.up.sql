-- A driver may have several vehicles: they get a table. While both application versions run, a trigger keeps the row
-- that the old one writes (drivers.vehicle_*) and the new table in step; 000020 removes the old columns.
set local lock_timeout = '3s';
create table vehicles (
    id uuid primary key default gen_random_uuid(),
    driver_id uuid not null references drivers on delete cascade,
    plate text not null,
    model text not null,
    color text not null,
    year smallint not null,
    is_current boolean not null default false,
    created_at timestamptz not null default now(),
    constraint vehicles_plate_key unique (plate),
    constraint vehicles_year_check check (year between 1990 and 2100)
);
create unique index vehicles_one_current on vehicles (driver_id) where is_current;
create index vehicles_by_driver on vehicles (driver_id);

create function copy_vehicle_of_driver() returns trigger
    language plpgsql
as $body$
begin
    update vehicles set is_current = false
    where driver_id = new.id and is_current and plate is distinct from new.vehicle_plate;
    if new.vehicle_plate is not null then
        insert into vehicles (driver_id, plate, model, color, year, is_current, created_at)
        values (new.id, new.vehicle_plate, new.vehicle_model, new.vehicle_color, new.vehicle_year, true, new.created_at)
        on conflict (plate) do update
            set driver_id = excluded.driver_id, model = excluded.model, color = excluded.color, year = excluded.year,
                is_current = true;
    end if;
    return null;
end
$body$;
create trigger drivers_copy_vehicle
    after insert or update of vehicle_plate, vehicle_model, vehicle_color, vehicle_year on drivers
    for each row execute function copy_vehicle_of_driver();

-- Drivers are thousands, not millions: one statement will do.
insert into vehicles (driver_id, plate, model, color, year, is_current, created_at)
select id, vehicle_plate, vehicle_model, vehicle_color, vehicle_year, true, created_at
from drivers
where vehicle_plate is not null;

comment on table vehicles is 'What drivers drive; at most one at a time is current';
