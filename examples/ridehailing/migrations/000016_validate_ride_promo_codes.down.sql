-- A constraint cannot be made unvalidated; it is put back as it was.
set local lock_timeout = '3s';
alter table rides drop constraint if exists rides_promo_code_id_fkey;
alter table rides
    add constraint rides_promo_code_id_fkey foreign key (promo_code_id) references promo_codes not valid;
