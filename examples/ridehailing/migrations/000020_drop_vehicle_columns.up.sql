-- Every running application version reads vehicles by now: the old columns and what kept them in step can go.
-- Their content lives on in vehicles, from where the way back takes it.
set local lock_timeout = '3s';
drop trigger if exists drivers_copy_vehicle on drivers;
drop function if exists copy_vehicle_of_driver();
-- migration-lint: ignore drop-in-up -- contract step; 000019 has copied the content to vehicles
alter table drivers
    drop constraint if exists drivers_vehicle_check,
    drop constraint if exists drivers_vehicle_plate_key,
    drop column if exists vehicle_plate,
    drop column if exists vehicle_model,
    drop column if exists vehicle_color,
    drop column if exists vehicle_year;
