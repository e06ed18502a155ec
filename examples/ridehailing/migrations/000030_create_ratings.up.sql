-- Both sides may rate a ride, and a good one may get a tip. The view is what dispatch shows.
set local lock_timeout = '3s';
create table ratings (
    id uuid primary key default gen_random_uuid(),
    ride_id uuid not null references rides on delete cascade,
    rater_id uuid not null references users,
    ratee_id uuid not null references users,
    score smallint not null,
    feedback text,
    created_at timestamptz not null default now(),
    constraint ratings_ride_rater_key unique (ride_id, rater_id),
    constraint ratings_score_check check (score between 1 and 5),
    constraint ratings_self_check check (rater_id <> ratee_id)
);
create index ratings_by_ratee on ratings (ratee_id);
create index ratings_by_rater on ratings (rater_id);
create table tips (
    id uuid primary key default gen_random_uuid(),
    ride_id uuid not null references rides on delete cascade,
    rider_id uuid not null references users,
    driver_id uuid not null references drivers (user_id),
    amount numeric(10, 2) not null,
    created_at timestamptz not null default now(),
    constraint tips_ride_id_key unique (ride_id),
    constraint tips_amount_check check (amount > 0)
);
create index tips_by_driver on tips (driver_id);
create index tips_by_rider on tips (rider_id);

create view driver_scoreboard as
select
    drivers.user_id as driver_id,
    users.first_name || ' ' || users.last_name as name,
    count(ratings.score) as ratings,
    round(avg(ratings.score), 2) as rating,
    drivers.total_rides
from drivers
join users on users.id = drivers.user_id
left join ratings on ratings.ratee_id = drivers.user_id
group by drivers.id, users.id;
comment on view driver_scoreboard is 'Each driver with the mean of the ratings given';
