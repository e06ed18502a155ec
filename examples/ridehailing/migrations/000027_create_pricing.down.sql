-- Children before parents.
set local lock_timeout = '3s';
drop function if exists ride_fare(numeric, numeric, integer);
alter table rides drop column if exists pricing_version_id;
drop table if exists surge_thresholds;
drop table if exists weather_multipliers;
drop table if exists time_multipliers;
drop table if exists pricing_configs;
drop table if exists pricing_versions;
