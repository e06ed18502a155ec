-- Which type a ride had is not known to any earlier schema, and nothing earlier asks.
set local lock_timeout = '3s';
alter table rides
    drop constraint if exists rides_ride_type_id_fkey,
    drop column if exists ride_type_id;
drop table if exists ride_types;
