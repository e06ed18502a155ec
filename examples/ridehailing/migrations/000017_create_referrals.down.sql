-- The younger table first.
set local lock_timeout = '3s';
drop table if exists referrals;
drop table if exists referral_codes;
