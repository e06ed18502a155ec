-- Of no partition yet: a rehearsal adds rows, and never changes the schema.
insert into driver_locations (driver_id, latitude, longitude, speed, heading, recorded_at)
select md5('driver' || 2 + n % 10)::uuid, 37.7, -122.4, n % 90, n % 360, timestamptz '2026-11-01 22:00Z' + n * interval '1 minute'
from generate_series(1, 240) n;
