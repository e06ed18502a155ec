-- Until now the old columns had the truth too, so nothing is lost that they could hold.
set local lock_timeout = '3s';
drop trigger if exists drivers_copy_vehicle on drivers;
drop function if exists copy_vehicle_of_driver();
drop table if exists vehicles;
