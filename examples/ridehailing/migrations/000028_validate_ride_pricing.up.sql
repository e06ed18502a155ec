-- As with the other keys: look at the old rows while new ones are written.
set local lock_timeout = '3s';
alter table rides validate constraint rides_pricing_version_id_fkey;
