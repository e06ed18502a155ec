-- A wallet and a way to pay for everybody but the staff.
insert into wallets (id, user_id, balance) select md5('wallet' || n)::uuid, md5('user' || n)::uuid, n * 10 from generate_series(2, 40) n;
insert into payment_methods (id, user_id, kind, last_four, is_default)
select md5('method' || n)::uuid, md5('user' || n)::uuid, (array['card', 'wallet', 'cash'])[1 + n % 3],
    case when n % 3 = 0 then lpad(n::text, 4, '4') end, n % 2 = 0
from generate_series(2, 40) n;
