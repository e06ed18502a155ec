-- The check first: there is no moment at which a null could come in.
set local lock_timeout = '3s';
alter table rides add constraint rides_ride_type_id_present check (ride_type_id is not null) not valid;
alter table rides validate constraint rides_ride_type_id_present;
alter table rides alter column ride_type_id drop not null;
