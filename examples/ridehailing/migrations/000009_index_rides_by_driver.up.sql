-- A driver's day, newest first; and at most one open ride per driver can be looked up at once.
create index concurrently rides_by_driver on rides (driver_id, requested_at desc) where driver_id is not null;
