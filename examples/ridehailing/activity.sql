-- A little business: some open rides end and are paid, some new ones begin. Each run does the next bit of it.
-- psql -v ON_ERROR_STOP=1 -d ridehailing -f activity.sql      (needs the migrations and a seed profile's rows)

begin;

with ended as (
    update rides set status = 'completed', completed_at = started_at + interval '20 minutes', actual_duration = 20,
        actual_distance = estimated_distance, final_fare = estimated_fare
    where id in (select id from rides where status = 'in_progress' order by requested_at, id limit 50)
    returning id, rider_id, driver_id, final_fare - discount_amount as amount, completed_at
)
insert into payments (id, ride_id, rider_id, driver_id, amount, commission, driver_earnings, method, status, processed_at)
select md5('payment/' || id)::uuid, id, rider_id, driver_id, amount, round(amount * 0.25, 2),
       amount - round(amount * 0.25, 2), 'cash', 'completed', completed_at
from ended;

-- People who have arrived somewhere go back.
insert into rides (id, rider_id, ride_type_id, status, pickup_latitude, pickup_longitude, pickup_address, dropoff_latitude,
                   dropoff_longitude, dropoff_address, estimated_distance, estimated_duration, estimated_fare, currency,
                   pricing_version_id, requested_at, created_at)
select md5('again/' || id || newest)::uuid, rider_id, ride_type_id, 'requested', dropoff_latitude, dropoff_longitude,
       dropoff_address, pickup_latitude, pickup_longitude, pickup_address, estimated_distance, estimated_duration,
       estimated_fare, currency, pricing_version_id, at, at
from (select *, newest + row_number() over (order by id) * interval '1 second' as at
      from (select *, max(requested_at) over () as newest from rides) as rides
      where status = 'completed' order by id limit 500) as arrived;

insert into notifications (id, user_id, ride_id, type, channel, title, body, status, sent_at, created_at)
select md5('looking/' || id)::uuid, rider_id, id, 'ride_requested', 'push', 'Looking for a driver',
       'From ' || pickup_address || ' to ' || dropoff_address, 'sent', requested_at, requested_at
from rides where status = 'requested' and not is_scheduled order by requested_at desc, id limit 500
on conflict (id) do nothing;

refresh materialized view revenue_by_day;
commit;
