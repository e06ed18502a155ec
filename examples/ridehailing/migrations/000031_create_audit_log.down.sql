-- First the triggers, on tables that stay.
set local lock_timeout = '3s';
drop trigger if exists wallets_audit on wallets;
drop trigger if exists payments_audit on payments;
drop function if exists write_audit_log();
drop table if exists audit_logs;
