-- Without blocking anybody either.
drop index concurrently if exists payments_processed;
