-- A ride-hailing core: 15 tables, small enough to read, with what makes a backup interesting: foreign keys, checks,
-- indexes of several kinds, a partitioned table, a sequence, views, a function, triggers, grants and comments.
-- Load into an empty database, as a superuser: psql -v ON_ERROR_STOP=1 -d ridehailing -f schema.sql

begin;

do $$
begin
    if not exists (select from pg_roles where rolname = 'ride_app') then
        create role ride_app nologin;
    end if;
    execute format('comment on database %I is %L', current_database(), 'Ride-hailing example of dbops.postgres');
end
$$;

-- who

create table users (
    id uuid primary key,
    email text not null unique,
    phone_number varchar(20) not null unique,
    first_name text not null,
    last_name text not null,
    role text not null check (role in ('rider', 'driver', 'admin')),
    is_active boolean not null default true,
    preferences jsonb not null default '{}',
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index users_by_name on users (last_name, first_name);
create index users_preferences on users using gin (preferences);

create table drivers (
    id uuid primary key,
    user_id uuid not null unique references users on delete cascade,
    license_number text not null unique,
    approval_status text not null default 'pending' check (approval_status in ('pending', 'approved', 'rejected')),
    approved_by uuid references users,
    approved_at timestamptz,
    is_online boolean not null default false,
    rating numeric(3, 2) check (rating between 1 and 5),
    total_rides int not null default 0 check (total_rides >= 0),
    check ((approval_status = 'approved') = (approved_at is not null)),
    check (approval_status = 'approved' or not is_online)
);

create table vehicles (
    id uuid primary key,
    driver_id uuid not null references drivers on delete cascade,
    plate text not null unique,
    model text not null,
    color text not null,
    year smallint not null check (year between 1990 and 2100)
);
create index on vehicles (driver_id);

-- money

create table payment_methods (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    kind text not null check (kind in ('card', 'wallet', 'cash')),
    last_four char(4),
    check ((kind = 'card') = (last_four is not null))
);
create index on payment_methods (user_id);

create table wallets (
    id uuid primary key,
    user_id uuid not null unique references users on delete cascade,
    balance numeric(12, 2) not null default 0 check (balance >= 0),
    currency char(3) not null default 'USD',
    updated_at timestamptz not null
);

create table promo_codes (
    id uuid primary key,
    code text not null unique,
    discount_type text not null check (discount_type in ('percentage', 'fixed_amount')),
    discount_value numeric(10, 2) not null check (discount_value > 0),
    valid_from timestamptz not null,
    valid_until timestamptz not null,
    total_uses int not null default 0,
    check (valid_until > valid_from)
);

-- rides

create table ride_types (
    id smallint primary key,
    name text not null unique,
    capacity smallint not null check (capacity > 0),
    base_fare numeric(6, 2) not null,
    per_km numeric(6, 2) not null
);

create table rides (
    id uuid primary key,
    rider_id uuid not null references users,
    driver_id uuid references drivers,
    ride_type_id smallint not null references ride_types,
    promo_code_id uuid references promo_codes,
    status text not null check (status in ('requested', 'accepted', 'in_progress', 'completed', 'cancelled')),
    pickup_latitude numeric(10, 8) not null check (pickup_latitude between -90 and 90),
    pickup_longitude numeric(11, 8) not null check (pickup_longitude between -180 and 180),
    pickup_address text not null,
    dropoff_latitude numeric(10, 8) not null check (dropoff_latitude between -90 and 90),
    dropoff_longitude numeric(11, 8) not null check (dropoff_longitude between -180 and 180),
    dropoff_address text not null,
    distance_km numeric(10, 2) not null check (distance_km >= 0),
    surge_multiplier numeric(3, 2) not null default 1 check (surge_multiplier >= 1),
    fare numeric(10, 2) not null check (fare >= 0),
    discount numeric(10, 2) not null default 0 check (discount between 0 and fare),
    requested_at timestamptz not null,
    accepted_at timestamptz,
    started_at timestamptz,
    completed_at timestamptz,
    cancelled_at timestamptz,
    cancellation_reason text,
    updated_at timestamptz not null,
    check (accepted_at >= requested_at and started_at >= accepted_at and completed_at >= started_at),
    check ((status = 'completed') = (completed_at is not null)),
    check ((status = 'cancelled') = (cancelled_at is not null and cancellation_reason is not null)),
    check (status in ('requested', 'cancelled') or driver_id is not null)
);
create index rides_by_rider on rides (rider_id, requested_at desc);
create index rides_by_driver on rides (driver_id, requested_at desc);
create index rides_open on rides (requested_at) where status in ('requested', 'accepted', 'in_progress');
create index rides_requested on rides using brin (requested_at);

create sequence receipt_numbers start 100000;

create table payments (
    id uuid primary key,
    ride_id uuid not null unique references rides,
    payment_method_id uuid references payment_methods,
    receipt text not null unique default 'R-' || nextval('receipt_numbers'),
    amount numeric(10, 2) not null check (amount >= 0),
    commission numeric(10, 2) not null,
    driver_earnings numeric(10, 2) not null,
    method text not null check (method in ('card', 'wallet', 'cash')),
    status text not null check (status in ('pending', 'completed', 'failed', 'refunded')),
    processed_at timestamptz not null,
    metadata jsonb not null default '{}',
    check (commission + driver_earnings = amount)
);
create index on payments (processed_at);
create index on payments (payment_method_id);

create table wallet_transactions (
    id bigint generated always as identity primary key,
    wallet_id uuid not null references wallets,
    payment_id uuid references payments,
    type text not null check (type in ('top_up', 'ride_payment', 'ride_earning')),
    amount numeric(12, 2) not null check (amount <> 0),
    balance_before numeric(12, 2) not null check (balance_before >= 0),
    balance_after numeric(12, 2) not null check (balance_after = balance_before + amount),
    created_at timestamptz not null
);
create index on wallet_transactions (wallet_id, id);

create table promo_code_uses (
    promo_code_id uuid not null references promo_codes,
    ride_id uuid not null references rides,
    user_id uuid not null references users,
    discount numeric(10, 2) not null check (discount > 0),
    primary key (promo_code_id, ride_id)
);
create index on promo_code_uses (user_id);

create table ratings (
    ride_id uuid primary key references rides on delete cascade,
    score smallint not null check (score between 1 and 5),
    feedback text,
    created_at timestamptz not null
);

create table favorite_locations (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    name text not null,
    address text not null,
    latitude numeric(10, 8) not null,
    longitude numeric(11, 8) not null,
    unique (user_id, name)
);

create table notifications (
    id bigint generated always as identity primary key,
    user_id uuid not null references users on delete cascade,
    ride_id uuid references rides on delete cascade,
    channel text not null check (channel in ('push', 'sms', 'email')),
    title text not null,
    body text not null,
    sent_at timestamptz not null,
    read_at timestamptz check (read_at >= sent_at)
);
create index on notifications (user_id, sent_at desc);
create index on notifications (ride_id);

-- The table that grows: one partition per day, and one that catches what has no day yet.
create table driver_locations (
    driver_id uuid not null references drivers on delete cascade,
    latitude numeric(10, 8) not null,
    longitude numeric(11, 8) not null,
    speed_kmh numeric(5, 1) not null check (speed_kmh >= 0),
    heading smallint not null check (heading between 0 and 359),
    recorded_at timestamptz not null,
    primary key (driver_id, recorded_at)
) partition by range (recorded_at);
create index driver_locations_recorded on driver_locations using brin (recorded_at);
create table driver_locations_other partition of driver_locations default;

do $$
begin
    for day in 1..7 loop
        execute format(
            'create table driver_locations_202611%s partition of driver_locations for values from (%L) to (%L)',
            to_char(day, 'FM00'),
            timestamptz '2026-11-01 00:00:00Z' + (day - 1) * interval '1 day',
            timestamptz '2026-11-01 00:00:00Z' + day * interval '1 day'
        );
    end loop;
end
$$;

-- what the application calls

create function ride_fare(distance_km numeric, surge numeric, base_fare numeric, per_km numeric) returns numeric
    language sql immutable parallel safe
    return round((base_fare + per_km * distance_km) * surge, 2);

create function touch_updated_at() returns trigger
    language plpgsql
as $$
begin
    new.updated_at := now();
    return new;
end
$$;

create trigger users_touch before update on users
    for each row when (old is distinct from new and old.updated_at = new.updated_at) execute function touch_updated_at();
create trigger rides_touch before update on rides
    for each row when (old is distinct from new and old.updated_at = new.updated_at) execute function touch_updated_at();
create trigger wallets_touch before update on wallets
    for each row when (old is distinct from new and old.updated_at = new.updated_at) execute function touch_updated_at();

create view driver_scoreboard as
    select drivers.id, users.first_name || ' ' || users.last_name as name, drivers.rating, drivers.total_rides,
           coalesce(sum(payments.driver_earnings), 0) as earned
    from drivers
        join users on users.id = drivers.user_id
        left join rides on rides.driver_id = drivers.id
        left join payments on payments.ride_id = rides.id and payments.status = 'completed'
    group by drivers.id, users.id;

create materialized view revenue_by_day as
    select date_trunc('day', processed_at at time zone 'UTC')::date as day, count(*) as payments, sum(commission) as revenue
    from payments where status = 'completed' group by 1;
create unique index on revenue_by_day (day);

comment on table rides is 'One row per request, whatever became of it';
comment on column rides.fare is 'Before the discount; payments.amount is what was paid';
comment on table driver_locations is 'One partition per day; drop the oldest instead of deleting rows';

grant select, insert, update on all tables in schema public to ride_app;
grant usage on all sequences in schema public to ride_app;
grant delete on favorite_locations to ride_app;
revoke update on payments, wallet_transactions from ride_app;
alter default privileges in schema public grant select on tables to ride_app;

commit;
