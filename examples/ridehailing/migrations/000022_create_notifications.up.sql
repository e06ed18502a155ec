-- What we told people, by which way, and whether they read it.
create type notification_channel as enum ('push', 'sms', 'email');

set local lock_timeout = '3s';
create table notifications (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references users on delete cascade,
    ride_id uuid references rides on delete cascade,
    type text not null,
    channel notification_channel not null,
    title text not null,
    body text not null,
    data jsonb not null default '{}',
    status text not null default 'pending',
    is_read boolean not null default false,
    scheduled_at timestamptz,
    sent_at timestamptz,
    read_at timestamptz,
    error_message text,
    created_at timestamptz not null default now(),
    constraint notifications_status_check check (status in ('pending', 'sent', 'failed', 'scheduled')),
    constraint notifications_sent_check check ((status = 'sent') = (sent_at is not null)),
    constraint notifications_failed_check check ((status = 'failed') = (error_message is not null)),
    constraint notifications_read_check check (is_read = (read_at is not null) and read_at >= sent_at)
);
create index notifications_by_user on notifications (user_id, created_at desc);
create index notifications_unread on notifications (user_id) where not is_read;
create index notifications_by_ride on notifications (ride_id) where ride_id is not null;
create index notifications_due on notifications (scheduled_at) where status = 'scheduled';

comment on table notifications is 'Read means sent, and sent before read';
