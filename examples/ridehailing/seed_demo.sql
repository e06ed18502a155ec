-- Fills the ride-hailing schema. Equal `seed` and `scale` give equal content on every PostgreSQL version: each value
-- is a hash of (seed, what, row number), no dice are thrown and no clock is read.
-- psql -v ON_ERROR_STOP=1 -v scale=1 -d ridehailing -f seed_demo.sql      (scale 1: 4000 riders, 24000 rides, about 50 MB)

\if :{?scale}
\else
    \set scale 1
\endif
\if :{?seed}
\else
    \set seed 2026
\endif

begin;
set local synchronous_commit = off;
set local timezone = 'UTC';
set local work_mem = '64MB';

create schema seeding;
create table seeding.setup as
select timestamptz '2026-11-08 00:00:00Z' as anchor, -- everything lies before it
       greatest(20, round(4000 * :scale))::int as riders,
       greatest(5, round(800 * :scale))::int as drivers,
       greatest(5, round(800 * :scale))::int * 30 as rides;

-- Bodies without quotes, so that psql puts the seed in and the planner can inline them.
create function seeding.key(what text, n bigint) returns uuid language sql immutable parallel safe
    return md5(:'seed' || '/' || what || '/' || n)::uuid;
-- 0 <= share < 1
create function seeding.share(what text, n bigint) returns double precision language sql immutable parallel safe
    return ('x' || substr(md5(:'seed' || '/' || what || '/' || n), 1, 13))::bit(52)::bigint / 4503599627370496.0::double precision;
create function seeding.one_of(words text[], what text, n bigint) returns text language sql immutable parallel safe
    return words[1 + floor(seeding.share(what, n) * array_length(words, 1))::int];
create function seeding.street(what text, n bigint) returns text language sql immutable parallel safe
    return 1 + floor(seeding.share(what || ' number', n) * 2400)::int || ' '
           || seeding.one_of(array['Market', 'Mission', 'Valencia', 'Castro', 'Geary', 'Fillmore', 'Haight', 'Folsom', 'Irving',
                                   'Judah', 'Polk', 'Union', 'Divisadero', 'Columbus', 'Taraval'], what || ' street', n)
           || ' Street, San Francisco';

-- who

insert into ride_types values
    (1, 'economy', 4, 2.50, 1.40), (2, 'comfort', 4, 4.00, 2.10), (3, 'van', 7, 6.00, 2.60);

insert into users
select seeding.key('user', n),
       'user' || n || '@example.test',
       '+1415' || to_char(5000000 + n, 'FM0000000'),
       seeding.one_of(array['Ada', 'Bruno', 'Chiara', 'Dmitri', 'Elif', 'Farid', 'Grace', 'Hiro', 'Ines', 'Jamal', 'Kaja',
                            'Liam', 'María', 'Nuru', 'Øystein', 'Priya', 'Quinn', 'Rosa', 'Søren', 'Thảo'], 'first name', n),
       seeding.one_of(array['Ahmed', 'Brown', 'Castro', 'Dubois', 'Eriksen', 'Fischer', 'García', 'Huang', 'Ivanova', 'Jones',
                            'Kowalski', 'Lopez', 'Müller', 'Nguyen', 'Okafor', 'Patel', 'Rossi', 'Sato', 'Tanaka', 'Weiß'], 'last name', n),
       case when n = 0 then 'admin' when n <= drivers then 'driver' else 'rider' end,
       n % 50 <> 49,
       jsonb_build_object('language', seeding.one_of(array['en', 'es', 'zh', 'de'], 'language', n), 'quiet', n % 3 = 0),
       anchor - interval '100 days' - seeding.share('sign-up', n) * interval '600 days',
       anchor - interval '90 days'
from seeding.setup, generate_series(0, drivers + riders) as n;

insert into drivers
select seeding.key('driver', n), seeding.key('user', n), 'D' || to_char(7000000 + n, 'FM0000000'),
       'approved', seeding.key('user', 0), anchor - interval '95 days', n % 3 <> 0, null, 0
from seeding.setup, generate_series(1, drivers) as n;

insert into vehicles
select seeding.key('vehicle', n), seeding.key('driver', n), to_char(n % 10, 'FM0') || 'SFO' || to_char(n, 'FM00000'),
       seeding.one_of(array['Prius', 'Model 3', 'Camry', 'Leaf', 'Sienna', 'Ioniq'], 'model', n),
       seeding.one_of(array['white', 'black', 'silver', 'blue', 'red'], 'color', n), 2012 + n % 14
from seeding.setup, generate_series(1, drivers) as n;

insert into payment_methods
select seeding.key('method', n), seeding.key('user', n), kind,
       case when kind = 'card' then to_char(floor(seeding.share('card', n) * 10000), 'FM0000') end
from seeding.setup, generate_series(drivers + 1, drivers + riders) as n,
     lateral (select (array['card', 'wallet', 'cash'])[1 + n % 3] as kind) as kinds;

insert into wallets
select seeding.key('wallet', n), seeding.key('user', n), 0, 'USD', anchor - interval '90 days'
from seeding.setup, generate_series(1, drivers + riders) as n;

insert into favorite_locations
select seeding.key('favorite', n), seeding.key('user', drivers + 1 + n / 2), (array['home', 'work'])[1 + n % 2],
       seeding.street('favorite', n), 37.7 + round(seeding.share('favorite latitude', n)::numeric * 0.1, 6),
       -122.5 + round(seeding.share('favorite longitude', n)::numeric * 0.1, 6)
from seeding.setup, generate_series(0, riders - 1) as n;

insert into promo_codes
select seeding.key('promo', n), 'RIDE' || to_char(n, 'FM000'), case when n % 2 = 0 then 'percentage' else 'fixed_amount' end,
       5 + n % 4 * 5, anchor - interval '120 days', anchor + interval '120 days', 0
from seeding.setup, generate_series(1, 20) as n;

-- Rides: every driver gets one at most every two days, so they never overlap. The last round is still going on.
insert into rides
select seeding.key('ride', n),
       seeding.key('user', drivers + 1 + floor(riders * power(seeding.share('rider', n), 2))::int), -- some ride often
       case when status <> 'requested' then seeding.key('driver', 1 + n % drivers) end,
       ride_types.id,
       case when promo > 0 then seeding.key('promo', promo) end,
       status,
       from_latitude, from_longitude, seeding.street('pickup', n), to_latitude, to_longitude, seeding.street('dropoff', n),
       distance, surge, fare,
       case when promo = 0 then 0 when promo % 2 = 0 then round(fare * (5 + promo % 4 * 5) / 100, 2)
            else least(fare, 5 + promo % 4 * 5) end,
       requested,
       case when status not in ('requested', 'cancelled') then requested + interval '2 minutes' end,
       case when status in ('in_progress', 'completed') then requested + interval '7 minutes' end,
       case when status = 'completed' then requested + interval '9 minutes' + distance * interval '150 seconds' end,
       case when status = 'cancelled' then requested + interval '4 minutes' end,
       case when status = 'cancelled' then seeding.one_of(array['Waited too long', 'Wrong address', 'Changed plans'], 'reason', n) end,
       requested
from seeding.setup,
     generate_series(0, rides - 1) as n,
     lateral (select n / drivers as round) as rounds,
     lateral (select case when round = 29 and n % 5 < 3 then (array['requested', 'accepted', 'in_progress'])[1 + n % 5]
                          when n % 5 = 4 then 'cancelled' else 'completed' end as status,
                     case when n % 9 = 0 then 1 + n % 20 else 0 end as promo,
                     case when round < 29 then anchor - (30 - round) * interval '2 days' + seeding.share('time', n) * interval '40 hours'
                          when n % 5 < 3 then anchor - interval '15 minutes' + seeding.share('time', n) * interval '7 minutes'
                          else anchor - interval '30 hours' + seeding.share('time', n) * interval '24 hours' end as requested,
                     round(37.7 + seeding.share('from latitude', n)::numeric * 0.1, 6) as from_latitude,
                     round(-122.5 + seeding.share('from longitude', n)::numeric * 0.1, 6) as from_longitude,
                     round(37.7 + seeding.share('to latitude', n)::numeric * 0.1, 6) as to_latitude,
                     round(-122.5 + seeding.share('to longitude', n)::numeric * 0.1, 6) as to_longitude,
                     round(1 + seeding.share('surge', n)::numeric * 0.5, 2) as surge) as drawn,
     ride_types,
     -- 111.2 km per degree of latitude, 88 per degree of longitude there; streets make it a third longer
     lateral (select round(1.3 * sqrt(power((to_latitude - from_latitude) * 111.2, 2)
                                      + power((to_longitude - from_longitude) * 88, 2)), 2) as distance) as distances,
     lateral (select ride_fare(distance, surge, base_fare, per_km) as fare) as fares
where ride_types.id = 1 + n % 3;

insert into promo_code_uses
select promo_code_id, id, rider_id, discount from rides where status = 'completed' and discount > 0;

insert into payments
select md5('payment/' || rides.id)::uuid, rides.id, payment_methods.id,
       'R-' || nextval('receipt_numbers'), rides.fare - discount, round((rides.fare - discount) * 0.25, 2),
       rides.fare - discount - round((rides.fare - discount) * 0.25, 2), kind, 'completed', completed_at,
       jsonb_build_object('provider', 'demo', 'reference', md5(rides.id::text))
from (select * from rides where status = 'completed' order by completed_at, id) as rides
    join payment_methods on payment_methods.user_id = rides.rider_id
order by completed_at, rides.id;

-- Every rider tops up exactly what his wallet rides cost, once, before the first; earnings follow each ride.
insert into wallet_transactions (wallet_id, payment_id, type, amount, balance_before, balance_after, created_at)
select wallet_id, payment_id, type, amount,
       coalesce(sum(amount) over earlier, 0), coalesce(sum(amount) over earlier, 0) + amount, created_at
from (
    select wallets.id as wallet_id, null::uuid as payment_id, 'top_up' as type, sum(payments.amount) + 20 as amount,
           min(payments.processed_at) - interval '1 day' as created_at
    from payments join rides on rides.id = payments.ride_id join wallets on wallets.user_id = rides.rider_id
    where method = 'wallet' group by wallets.id
    union all
    select wallets.id, payments.id, 'ride_payment', -payments.amount, processed_at
    from payments join rides on rides.id = payments.ride_id join wallets on wallets.user_id = rides.rider_id
    where method = 'wallet' and payments.amount > 0
    union all
    select wallets.id, payments.id, 'ride_earning', payments.driver_earnings, processed_at
    from payments join rides on rides.id = payments.ride_id
        join drivers on drivers.id = rides.driver_id join wallets on wallets.user_id = drivers.user_id
    where method <> 'cash' and payments.driver_earnings > 0
) as moves
window earlier as (partition by wallet_id order by created_at, payment_id nulls first
                   rows between unbounded preceding and 1 preceding)
order by created_at, wallet_id, payment_id nulls first;

update wallets set balance = balances.balance, updated_at = balances.moved
from (select wallet_id, sum(amount) as balance, max(created_at) as moved from wallet_transactions group by 1) as balances
where balances.wallet_id = wallets.id;

insert into ratings
select id, 3 + floor(seeding.share('score', n) * 3)::int,
       case when n % 3 = 0 then seeding.one_of(array['Smooth ride', 'Very friendly', 'A bit late', 'Clean car', 'Great music'], 'feedback', n) end,
       completed_at + interval '5 minutes'
from (select rides.*, row_number() over (order by requested_at, id) as n from rides where status = 'completed') as rides
where n % 5 < 4;

update drivers set total_rides = counted.rides, rating = counted.rating
from (select driver_id, count(*) as rides, round(avg(score), 2) as rating
      from rides left join ratings on ratings.ride_id = rides.id where status = 'completed' group by 1) as counted
where counted.driver_id = drivers.id;

update promo_codes set total_uses = counted.uses
from (select promo_code_id, count(*) as uses from promo_code_uses group by 1) as counted
where counted.promo_code_id = promo_codes.id;

insert into notifications (user_id, ride_id, channel, title, body, sent_at, read_at)
select rider_id, id, seeding.one_of(array['push', 'sms', 'email'], 'channel', n),
       case status when 'completed' then 'Your receipt' when 'cancelled' then 'Ride cancelled' else 'Your ride' end,
       format('From %s to %s: %s km, %s USD. Thank you for riding with us.', pickup_address, dropoff_address, distance_km, fare - discount),
       coalesce(completed_at, cancelled_at, requested_at),
       case when n % 4 <> 0 then coalesce(completed_at, cancelled_at, requested_at) + interval '30 minutes' end
from (select rides.*, row_number() over (order by requested_at, id) as n from rides) as rides
order by n;

-- Where everybody was: three positions for each ride's driver, spread over the last week before the anchor.
insert into driver_locations
select seeding.key('driver', 1 + n % drivers), round(37.7 + seeding.share('at latitude', n)::numeric * 0.1, 6),
       round(-122.5 + seeding.share('at longitude', n)::numeric * 0.1, 6), round(seeding.share('speed', n)::numeric * 60, 1),
       floor(seeding.share('heading', n) * 360)::int,
       anchor - interval '7 days' + (n / drivers) * interval '6700 seconds' + (n % drivers) * interval '1 second' / 1000
from seeding.setup, generate_series(0, rides * 3 - 1) as n;

refresh materialized view revenue_by_day;
drop schema seeding cascade;
commit;

analyze;
