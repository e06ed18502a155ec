-- The function last: the table's trigger uses it.
set local lock_timeout = '3s';
drop table if exists wallet_transactions;
drop function if exists refuse_change();
