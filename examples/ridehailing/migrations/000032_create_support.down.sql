-- Children before parents.
set local lock_timeout = '3s';
drop table if exists fraud_alerts;
drop table if exists driver_documents;
drop table if exists support_messages;
drop table if exists support_tickets;
