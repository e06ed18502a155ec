-- Riders bring riders, and both get a bonus after the new one's first ride.
set local lock_timeout = '3s';
create table referral_codes (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references users on delete cascade,
    code text not null,
    total_referrals integer not null default 0,
    total_earnings numeric(10, 2) not null default 0,
    created_at timestamptz not null default now(),
    constraint referral_codes_user_id_key unique (user_id),
    constraint referral_codes_code_key unique (code),
    constraint referral_codes_totals_check check (total_referrals >= 0 and total_earnings >= 0)
);
create table referrals (
    id uuid primary key default gen_random_uuid(),
    referral_code_id uuid not null references referral_codes on delete cascade,
    referrer_id uuid not null references users on delete cascade,
    referred_id uuid not null references users on delete cascade,
    referrer_bonus numeric(10, 2) not null default 0,
    referred_bonus numeric(10, 2) not null default 0,
    referrer_bonus_applied boolean not null default false,
    referred_bonus_applied boolean not null default false,
    first_ride_id uuid references rides,
    created_at timestamptz not null default now(),
    constraint referrals_referred_id_key unique (referred_id),
    constraint referrals_self_check check (referrer_id <> referred_id),
    constraint referrals_applied_check check (
        first_ride_id is not null or not (referrer_bonus_applied or referred_bonus_applied)
    )
);
create index referrals_by_code on referrals (referral_code_id);
create index referrals_by_referrer on referrals (referrer_id);
create index referrals_by_first_ride on referrals (first_ride_id) where first_ride_id is not null;

comment on table referrals is 'Nobody refers themselves, and nobody is referred twice';
