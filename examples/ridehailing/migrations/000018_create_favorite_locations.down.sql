-- Nothing else knows of it.
set local lock_timeout = '3s';
drop table if exists favorite_locations;
