-- Constraints cannot be made unvalidated; they are put back as they were.
set local lock_timeout = '3s';
alter table rides
    drop constraint if exists rides_city_id_fkey,
    drop constraint if exists rides_pickup_zone_id_fkey,
    drop constraint if exists rides_dropoff_zone_id_fkey;
alter table rides
    add constraint rides_city_id_fkey foreign key (city_id) references cities not valid,
    add constraint rides_pickup_zone_id_fkey foreign key (pickup_zone_id) references pricing_zones not valid,
    add constraint rides_dropoff_zone_id_fkey foreign key (dropoff_zone_id) references pricing_zones not valid;
