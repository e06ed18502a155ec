-- A constraint cannot be made unvalidated; it is put back as it was.
set local lock_timeout = '3s';
alter table rides drop constraint if exists rides_ride_type_id_present;
alter table rides add constraint rides_ride_type_id_present check (ride_type_id is not null) not valid;
