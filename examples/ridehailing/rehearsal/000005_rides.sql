-- Two hundred rides in every status.
insert into rides (id, rider_id, driver_id, status, pickup_latitude, pickup_longitude, pickup_address, dropoff_latitude,
                   dropoff_longitude, dropoff_address, estimated_distance, estimated_duration, estimated_fare, actual_distance,
                   actual_duration, final_fare, requested_at, accepted_at, started_at, completed_at, cancelled_at,
                   cancellation_reason, is_scheduled, scheduled_at)
select md5('ride' || n)::uuid, md5('user' || 14 + n % 26)::uuid, case when status <> 'requested' then md5('user' || 2 + n % 10)::uuid end,
    status::ride_status, 37.7 + n / 10000.0, -122.4 - n / 10000.0, n || ' Main St', 37.75, -122.45, 'Pier ' || n % 40, 4.2, 12, 15.50,
    case when status = 'completed' then 4.4 end, case when status = 'completed' then 13 end, case when status = 'completed' then 16.00 end,
    at, case when status not in ('requested', 'cancelled') then at + interval '1 minute' end,
    case when status in ('in_progress', 'completed') then at + interval '5 minutes' end,
    case when status = 'completed' then at + interval '20 minutes' end, case when status = 'cancelled' then at + interval '2 minutes' end,
    case when status = 'cancelled' then 'Changed my mind' end, n % 50 = 0, case when n % 50 = 0 then at + interval '1 hour' end
from (
    select n, (array['completed', 'completed', 'completed', 'cancelled', 'requested', 'accepted', 'in_progress'])[1 + n % 7] as status,
        timestamptz '2026-11-01 08:00Z' + n * interval '17 minutes' as at
    from generate_series(1, 200) n
) s;
