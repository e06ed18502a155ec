-- Back to an empty schema.
set local lock_timeout = '3s';
drop table if exists users;
