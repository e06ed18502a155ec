-- Read and unread, one that failed.
insert into notifications (user_id, ride_id, type, channel, title, body, status, is_read, sent_at, read_at, error_message)
select rider_id, id, 'ride', 'push', 'Your ride', pickup_address, case when n = 9 then 'failed' else 'sent' end, n % 2 = 0 and n <> 9,
    case when n <> 9 then requested_at end, case when n % 2 = 0 and n <> 9 then requested_at + interval '1 minute' end,
    case when n = 9 then 'No device' end
from (select *, row_number() over (order by id) as n from rides) r limit 60;
