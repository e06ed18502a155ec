-- updated_at is again what the application writes.
set local lock_timeout = '3s';
drop trigger if exists users_touch on users;
drop function if exists touch_updated_at();
