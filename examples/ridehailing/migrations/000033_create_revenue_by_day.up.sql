-- The morning report, made once a night. Its unique index is what REFRESH ... CONCURRENTLY needs.
set local lock_timeout = '3s';
create materialized view revenue_by_day as
select
    (processed_at at time zone 'UTC')::date as day,
    currency,
    count(*) as payments,
    sum(amount) as turnover,
    sum(commission) as revenue
from payments
where status = 'completed'
group by 1, 2;
create unique index revenue_by_day_key on revenue_by_day (day, currency);
comment on materialized view revenue_by_day is 'As of the last refresh; completed payments only';
