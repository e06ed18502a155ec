-- Every movement of money on a wallet. Rows are added, never changed: a correction is another row.
set local lock_timeout = '3s';
create table wallet_transactions (
    id bigint generated always as identity primary key,
    wallet_id uuid not null references wallets,
    user_id uuid not null references users,
    payment_method_id uuid not null references payment_methods,
    ride_id uuid references rides,
    type text not null,
    amount numeric(12, 2) not null,
    balance_before numeric(12, 2) not null,
    balance_after numeric(12, 2) not null,
    description text not null,
    reference_id text,
    created_at timestamptz not null default now(),
    constraint wallet_transactions_type_check check (
        type in ('top_up', 'ride_payment', 'ride_earning', 'payout', 'refund', 'bonus')
    ),
    constraint wallet_transactions_amount_check check (amount <> 0),
    constraint wallet_transactions_balance_check check (
        balance_before >= 0 and balance_after >= 0 and balance_after = balance_before + amount
    )
);
create index wallet_transactions_by_wallet on wallet_transactions (wallet_id, id);
create index wallet_transactions_by_user on wallet_transactions (user_id, created_at desc);
create index wallet_transactions_by_method on wallet_transactions (payment_method_id);
create index wallet_transactions_by_ride on wallet_transactions (ride_id) where ride_id is not null;

create function refuse_change() returns trigger
    language plpgsql
as $$
begin
    raise exception '% is append-only; to correct a row, add another one', tg_table_name
        using errcode = 'restrict_violation';
end
$$;
create trigger wallet_transactions_append_only before update on wallet_transactions
    for each row execute function refuse_change();

comment on table wallet_transactions is 'The ledger: each balance_before is the balance_after of the row before';
comment on column wallet_transactions.amount is 'Signed: what comes in is positive';
