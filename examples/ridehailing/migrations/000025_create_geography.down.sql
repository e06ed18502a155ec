-- Children before parents.
set local lock_timeout = '3s';
alter table rides
    drop column if exists dropoff_zone_id,
    drop column if exists pickup_zone_id,
    drop column if exists city_id;
drop table if exists pricing_zones;
drop table if exists cities;
drop table if exists regions;
drop table if exists countries;
