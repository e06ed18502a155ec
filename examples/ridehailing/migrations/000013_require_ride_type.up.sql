-- In two steps: first the scan, under a lock that lets writers in.
set local lock_timeout = '3s';
alter table rides validate constraint rides_ride_type_id_present;
