-- Reads the three tables while they are written to.
set local lock_timeout = '3s';
alter table wallets validate constraint wallets_currency_fkey;
alter table payments validate constraint payments_currency_fkey;
alter table rides validate constraint rides_currency_fkey;
