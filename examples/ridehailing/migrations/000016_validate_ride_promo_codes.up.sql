-- Old rides have none, so this finds nothing; but until it has looked, the planner may not rely on the key.
set local lock_timeout = '3s';
alter table rides validate constraint rides_promo_code_id_fkey;
