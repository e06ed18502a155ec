-- The sequence belongs to the table and goes with it.
set local lock_timeout = '3s';
drop table if exists payments;
