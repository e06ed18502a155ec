-- Its trigger, indexes and constraints go with the table.
set local lock_timeout = '3s';
drop table if exists drivers;
