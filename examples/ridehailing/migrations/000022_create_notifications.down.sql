-- The type last: the table uses it.
set local lock_timeout = '3s';
drop table if exists notifications;
drop type if exists notification_channel;
