-- "My rides", newest first. Rides are busy by now: the index is built without blocking writers, alone in its file.
create index concurrently rides_by_rider on rides (rider_id, requested_at desc);
