-- The columns again, filled from each driver's current vehicle, and then the trigger that kept both in step.
set local lock_timeout = '3s';
alter table drivers
    add column vehicle_plate text,
    add column vehicle_model text,
    add column vehicle_color text,
    add column vehicle_year smallint;
alter table drivers disable trigger drivers_touch; -- this is no change of a driver
update drivers
set vehicle_plate = vehicles.plate, vehicle_model = vehicles.model, vehicle_color = vehicles.color,
    vehicle_year = vehicles.year
from vehicles
where vehicles.driver_id = drivers.id and vehicles.is_current;
alter table drivers enable trigger drivers_touch;
alter table drivers
    add constraint drivers_vehicle_plate_key unique (vehicle_plate),
    add constraint drivers_vehicle_check check (
        num_nulls(vehicle_plate, vehicle_model, vehicle_color, vehicle_year) in (0, 4)
    );

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
