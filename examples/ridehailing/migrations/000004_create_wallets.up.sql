-- Money on account, and what a user can pay with.
set local lock_timeout = '3s';
create table wallets (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null,
    balance numeric(12, 2) not null default 0,
    currency char(3) not null default 'USD',
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint wallets_user_id_key unique (user_id),
    constraint wallets_user_id_fkey foreign key (user_id) references users on delete cascade,
    constraint wallets_balance_check check (balance >= 0)
);
create trigger wallets_touch before update on wallets
    for each row when (old.* is distinct from new.*) execute function touch_updated_at();

create table payment_methods (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references users on delete cascade,
    kind text not null,
    last_four char(4),
    is_default boolean not null default false,
    created_at timestamptz not null default now(),
    constraint payment_methods_kind_check check (kind in ('card', 'wallet', 'cash')),
    constraint payment_methods_card_check check ((kind = 'card') = (last_four is not null))
);
create index payment_methods_by_user on payment_methods (user_id);
create unique index payment_methods_one_default on payment_methods (user_id) where is_default;

comment on table wallets is 'One per rider or driver; the balance is the sum of its transactions';
comment on table payment_methods is 'No card data: the last four digits, and whatever token the provider keeps';
