-- The report reads by day. Payments are busy: built without blocking, alone in its file.
create index concurrently payments_processed on payments (processed_at) where status = 'completed';
