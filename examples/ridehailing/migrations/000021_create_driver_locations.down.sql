-- All partitions go with their table.
set local lock_timeout = '3s';
drop function if exists create_driver_locations_day(date);
drop table if exists driver_locations;
