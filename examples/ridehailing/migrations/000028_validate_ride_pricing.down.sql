-- A constraint cannot be made unvalidated; it is put back as it was.
set local lock_timeout = '3s';
alter table rides drop constraint if exists rides_pricing_version_id_fkey;
alter table rides
    add constraint rides_pricing_version_id_fkey foreign key (pricing_version_id) references pricing_versions not valid;
