-- One per completed ride; a few failed.
insert into payments (id, ride_id, rider_id, driver_id, amount, commission, driver_earnings, method, status, failure_reason,
                      processed_at, metadata)
select md5('payment' || id)::uuid, id, rider_id, driver_id, final_fare, 4.00, final_fare - 4.00, 'card',
    case when extract(minute from completed_at)::int % 10 = 3 then 'failed' else 'completed' end,
    case when extract(minute from completed_at)::int % 10 = 3 then 'Card declined' end, completed_at, '{"provider": "demo"}'
from rides where status = 'completed';
