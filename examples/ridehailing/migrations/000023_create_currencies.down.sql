-- The codes stay in wallets and payments as the plain text that they were.
set local lock_timeout = '3s';
alter table payments drop constraint if exists payments_currency_fkey;
alter table wallets drop constraint if exists wallets_currency_fkey;
alter table rides drop column if exists currency; -- with its foreign key
drop table if exists currencies;
