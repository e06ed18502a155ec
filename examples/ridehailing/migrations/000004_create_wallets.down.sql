-- The younger table first.
set local lock_timeout = '3s';
drop table if exists payment_methods;
drop table if exists wallets;
