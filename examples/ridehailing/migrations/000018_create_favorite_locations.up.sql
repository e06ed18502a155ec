-- Home, work, the gym.
set local lock_timeout = '3s';
create table favorite_locations (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references users on delete cascade,
    name text not null,
    address text not null,
    latitude numeric(10, 8) not null,
    longitude numeric(11, 8) not null,
    created_at timestamptz not null default now(),
    constraint favorite_locations_user_name_key unique (user_id, name),
    constraint favorite_locations_place_check check (latitude between -90 and 90 and longitude between -180 and 180)
);
comment on table favorite_locations is 'Places that a rider has given a name';
