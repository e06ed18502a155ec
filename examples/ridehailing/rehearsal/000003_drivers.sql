-- Approved, pending and rejected; one has registered no vehicle yet.
insert into drivers (id, user_id, license_number, approval_status, approved_by, approved_at, rejected_at, rejection_reason,
                     is_available, is_online, rating, vehicle_plate, vehicle_model, vehicle_color, vehicle_year)
select md5('driver' || n)::uuid, md5('user' || n)::uuid, 'L-' || n,
    case when n <= 11 then 'approved' when n = 12 then 'pending' else 'rejected' end,
    case when n <= 11 then md5('user1')::uuid end, case when n <= 11 then timestamptz '2026-09-01 00:00Z' end,
    case when n = 13 then timestamptz '2026-09-02 00:00Z' end, case when n = 13 then 'License expired' end,
    n <= 8, n <= 6, case when n <= 9 then 4.5 end,
    case when n <> 12 then 'PLATE' || n end, case when n <> 12 then 'Sedan' end, case when n <> 12 then 'blue' end,
    case when n <> 12 then 2015 + n % 9 end
from generate_series(2, 13) n;
