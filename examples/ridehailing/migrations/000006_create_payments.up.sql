-- What a completed ride cost, and who gets which share of it.
set local lock_timeout = '3s';
create sequence receipt_numbers start 100000;
create table payments (
    id uuid primary key default gen_random_uuid(),
    ride_id uuid not null references rides,
    rider_id uuid not null references users,
    driver_id uuid not null references drivers (user_id),
    receipt text not null default 'R-' || nextval('receipt_numbers'),
    amount numeric(10, 2) not null,
    commission numeric(10, 2) not null,
    driver_earnings numeric(10, 2) not null,
    method text not null,
    status text not null default 'pending',
    transaction_id text,
    failure_reason text,
    processed_at timestamptz,
    currency char(3) not null default 'USD',
    metadata jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint payments_ride_id_key unique (ride_id),
    constraint payments_receipt_key unique (receipt),
    constraint payments_amount_check check (amount >= 0 and commission >= 0 and commission + driver_earnings = amount),
    constraint payments_method_check check (method in ('card', 'wallet', 'cash')),
    constraint payments_status_check check (status in ('pending', 'completed', 'failed', 'refunded')),
    constraint payments_failure_check check ((status = 'failed') = (failure_reason is not null)),
    constraint payments_processed_check check ((status = 'pending') = (processed_at is null))
);
alter sequence receipt_numbers owned by payments.receipt;
create index payments_by_rider on payments (rider_id, created_at desc);
create index payments_by_driver on payments (driver_id, created_at desc);
create index payments_metadata on payments using gin (metadata jsonb_path_ops);
create trigger payments_touch before update on payments
    for each row when (old.* is distinct from new.*) execute function touch_updated_at();

comment on table payments is 'Exactly one per completed ride, none for the others';
comment on column payments.amount is 'Final fare less discount; commission and earnings split it without remainder';
