-- Who changed a payment or a wallet, from what to what. Filled by triggers, so that nobody can forget it.
set local lock_timeout = '3s';
create table audit_logs (
    id bigint generated always as identity primary key,
    table_name text not null,
    row_id uuid not null,
    action text not null,
    old_row jsonb,
    new_row jsonb,
    changed_by text not null default current_user,
    changed_at timestamptz not null default now(),
    constraint audit_logs_action_check check (action in ('INSERT', 'UPDATE', 'DELETE'))
);
create index audit_logs_by_row on audit_logs (table_name, row_id);
create index audit_logs_changed on audit_logs using brin (changed_at);

create function write_audit_log() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, public
as $$
begin
    insert into audit_logs (table_name, row_id, action, old_row, new_row)
    values (
        tg_table_name, coalesce(new.id, old.id), tg_op,
        case when tg_op <> 'INSERT' then to_jsonb(old) end,
        case when tg_op <> 'DELETE' then to_jsonb(new) end
    );
    return null; -- after the change: what is returned does not matter
end
$$;
create trigger payments_audit after update or delete on payments
    for each row execute function write_audit_log();
create trigger wallets_audit after update or delete on wallets
    for each row execute function write_audit_log();
comment on table audit_logs is 'Append-only; new rows of payments and wallets are their own record';
