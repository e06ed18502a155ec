-- The type last: the table uses it.
set local lock_timeout = '3s';
drop table if exists rides;
drop type if exists ride_status;
