-- Discounts, and who used which on what ride.
set local lock_timeout = '3s';
create table promo_codes (
    id uuid primary key default gen_random_uuid(),
    code text not null,
    description text not null default '',
    discount_type text not null,
    discount_value numeric(10, 2) not null,
    max_discount_amount numeric(10, 2),
    min_ride_amount numeric(10, 2),
    max_uses integer,
    total_uses integer not null default 0,
    uses_per_user integer not null default 1,
    valid_from timestamptz not null,
    valid_until timestamptz not null,
    is_active boolean not null default true,
    created_by uuid references users,
    created_at timestamptz not null default now(),
    constraint promo_codes_code_key unique (code),
    constraint promo_codes_discount_check check (
        discount_value > 0
        and (discount_type = 'fixed_amount' or (discount_type = 'percentage' and discount_value <= 100))
    ),
    constraint promo_codes_uses_check check (
        total_uses >= 0 and uses_per_user > 0 and (max_uses is null or total_uses <= max_uses)
    ),
    constraint promo_codes_valid_check check (valid_until > valid_from)
);
create index promo_codes_created_by on promo_codes (created_by);
create unique index promo_codes_any_case on promo_codes (lower(code));

create table promo_code_uses (
    id bigint generated always as identity primary key,
    promo_code_id uuid not null references promo_codes on delete cascade,
    user_id uuid not null references users on delete cascade,
    ride_id uuid not null references rides on delete cascade,
    discount_amount numeric(10, 2) not null,
    original_amount numeric(10, 2) not null,
    final_amount numeric(10, 2) not null,
    used_at timestamptz not null default now(),
    constraint promo_code_uses_promo_ride_key unique (promo_code_id, ride_id),
    constraint promo_code_uses_amount_check check (
        discount_amount > 0 and final_amount >= 0 and final_amount = original_amount - discount_amount
    )
);
create index promo_code_uses_by_user on promo_code_uses (user_id, promo_code_id);
create index promo_code_uses_by_ride on promo_code_uses (ride_id);

alter table rides add column promo_code_id uuid;
alter table rides
    add constraint rides_promo_code_id_fkey foreign key (promo_code_id) references promo_codes not valid;

comment on table promo_codes is 'A percentage or a fixed amount off, within a time, a number of uses, and uses per user';
comment on column promo_codes.total_uses is 'The rows of promo_code_uses, counted';
