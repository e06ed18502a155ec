-- A little business: some open rides end and are paid, some new ones begin. Each run does the next bit of it.
-- psql -v ON_ERROR_STOP=1 -d ridehailing -f activity.sql

begin;

with ended as (
    update rides set status = 'completed', completed_at = started_at + interval '20 minutes',
        updated_at = started_at + interval '20 minutes'
    where id in (select id from rides where status = 'in_progress' order by requested_at, id limit 50)
    returning id, fare - discount as amount, completed_at
)
insert into payments (id, ride_id, amount, commission, driver_earnings, method, status, processed_at)
select md5('payment/' || id)::uuid, id, amount, round(amount * 0.25, 2), amount - round(amount * 0.25, 2),
       'cash', 'completed', completed_at
from ended;

insert into rides (id, rider_id, ride_type_id, status, pickup_latitude, pickup_longitude, pickup_address, dropoff_latitude,
                   dropoff_longitude, dropoff_address, distance_km, fare, requested_at, updated_at)
select md5('again/' || id || newest)::uuid, rider_id, ride_type_id, 'requested', dropoff_latitude, dropoff_longitude,
       dropoff_address, pickup_latitude, pickup_longitude, pickup_address, distance_km, fare,
       newest + row_number() over (order by id) * interval '1 second', newest
from (select *, max(requested_at) over () as newest from rides) as rides
where status = 'completed'
order by id limit 500;

insert into notifications (user_id, ride_id, channel, title, body, sent_at)
select rider_id, id, 'push', 'Looking for a driver', 'From ' || pickup_address || ' to ' || dropoff_address, requested_at
from rides where status = 'requested' order by requested_at desc, id limit 500;

refresh materialized view revenue_by_day;
commit;
