-- Without blocking anybody either.
drop index concurrently if exists rides_by_rider;
