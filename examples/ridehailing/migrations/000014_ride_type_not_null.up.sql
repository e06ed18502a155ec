-- Then NOT NULL, which needs no scan of its own thanks to the validated check; that has done its work.
set local lock_timeout = '3s';
-- migration-lint: ignore squawk:adding-not-nullable-field -- 000013 validated the check that spares this the scan
alter table rides alter column ride_type_id set not null;
alter table rides drop constraint if exists rides_ride_type_id_present;
