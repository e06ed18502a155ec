-- What a user needs besides an account to drive. The vehicle still stands in the same row; 000019 gives it a table.
set local lock_timeout = '3s'; -- the foreign keys lock users
create table drivers (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null,
    license_number text not null,
    approval_status text not null default 'pending',
    approved_by uuid references users,
    approved_at timestamptz,
    rejected_at timestamptz,
    rejection_reason text,
    is_available boolean not null default false,
    is_online boolean not null default false,
    rating numeric(3, 2),
    total_rides integer not null default 0,
    current_latitude numeric(10, 8),
    current_longitude numeric(11, 8),
    last_location_update timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    vehicle_plate text,
    vehicle_model text,
    vehicle_color text,
    vehicle_year smallint,
    constraint drivers_user_id_key unique (user_id),
    constraint drivers_license_number_key unique (license_number),
    constraint drivers_vehicle_plate_key unique (vehicle_plate),
    constraint drivers_user_id_fkey foreign key (user_id) references users on delete cascade,
    constraint drivers_approval_check check (
        approval_status in ('pending', 'approved', 'rejected')
        and (approval_status = 'approved') = (approved_at is not null and approved_by is not null)
        and (approval_status = 'rejected') = (rejected_at is not null and rejection_reason is not null)
    ),
    constraint drivers_working_check check (approval_status = 'approved' or not (is_available or is_online)),
    constraint drivers_rating_check check (rating between 1 and 5),
    constraint drivers_total_rides_check check (total_rides >= 0),
    constraint drivers_position_check check (
        current_latitude between -90 and 90 and current_longitude between -180 and 180
    ),
    constraint drivers_vehicle_check check (
        num_nulls(vehicle_plate, vehicle_model, vehicle_color, vehicle_year) in (0, 4)
    )
);
create index drivers_approved_by on drivers (approved_by);
create index drivers_dispatchable on drivers (user_id) where is_available and is_online;
create trigger drivers_touch before update on drivers
    for each row when (old.* is distinct from new.*) execute function touch_updated_at();

comment on table drivers is 'The driving side of a user; approved by somebody before the first ride';
comment on column drivers.is_available is 'Takes work at all; dispatch also wants online, and no open ride';
comment on column drivers.total_rides is 'Completed rides; counted from rides, never guessed';
