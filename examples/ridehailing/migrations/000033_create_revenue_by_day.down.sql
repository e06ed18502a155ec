-- Its index goes with it.
set local lock_timeout = '3s';
drop materialized view if exists revenue_by_day;
