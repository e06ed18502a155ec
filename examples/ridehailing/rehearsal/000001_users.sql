-- Rows that a rehearsal carries through all migrations: a few of each kind, with every optional column both ways.
insert into users (id, email, phone_number, password_hash, first_name, last_name, role, is_active, deleted_at)
select md5('user' || n)::uuid, 'user' || n || '@example.org', '+1555' || lpad(n::text, 7, '0'), '$2b$10$example', 'First' || n,
    'Last' || n % 7, case when n = 1 then 'admin' when n <= 13 then 'driver' else 'rider' end, n <> 40,
    case when n = 40 then timestamptz '2026-10-01 00:00Z' end
from generate_series(1, 40) n;
