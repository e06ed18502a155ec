-- First what points at the tables.
set local lock_timeout = '3s';
alter table rides drop column if exists promo_code_id; -- with its foreign key
drop table if exists promo_code_uses;
drop table if exists promo_codes;
