-- updated_at is the server's business: whoever writes a row cannot forget it, and a load that sets it keeps it.
create function touch_updated_at() returns trigger
    language plpgsql
as $$
begin
    if new.updated_at = old.updated_at then
        new.updated_at := now();
    end if;
    return new;
end
$$;

set local lock_timeout = '3s';
create trigger users_touch before update on users
    for each row when (old.* is distinct from new.*) execute function touch_updated_at();
