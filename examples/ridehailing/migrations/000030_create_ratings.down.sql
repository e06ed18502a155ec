-- First the view, which reads the tables.
set local lock_timeout = '3s';
drop view if exists driver_scoreboard;
drop table if exists tips;
drop table if exists ratings;
