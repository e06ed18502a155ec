-- Dispatch asks for open rides all day; few of millions are open, so the index is partial and stays small.
create index concurrently rides_open on rides (requested_at) where status in ('requested', 'accepted', 'in_progress');
