-- Nothing else knows of them.
set local lock_timeout = '3s';
drop table if exists eta_model_stats;
drop table if exists eta_predictions;
