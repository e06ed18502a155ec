-- Everyone who can log in: riders, drivers and the staff. One row per person, told apart by role.
create table users (
    id uuid primary key default gen_random_uuid(),
    email text not null,
    phone_number varchar(20) not null,
    password_hash text not null,
    first_name text not null,
    last_name text not null,
    role text not null,
    is_active boolean not null default true,
    is_verified boolean not null default false,
    preferred_language text not null default 'en',
    phone_verified_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    constraint users_email_key unique (email),
    constraint users_phone_number_key unique (phone_number),
    constraint users_role_check check (role in ('rider', 'driver', 'admin')),
    constraint users_deleted_check check (deleted_at is null or not is_active)
);
create index users_by_name on users (last_name, first_name);

comment on table users is 'Riders, drivers and staff; a deleted account keeps its row, for the rides that point at it';
comment on column users.password_hash is 'Never a password: the output of the application''s password hash';
