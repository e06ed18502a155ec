-- A market, and rides that lie in it.
insert into countries (code, name, currency) values ('US', 'United States', 'USD');
insert into regions (id, country, name, timezone) values (1, 'US', 'California', 'America/Los_Angeles');
insert into cities (id, region_id, name, center) values (1, 1, 'San Francisco', '(-122.42,37.77)');
insert into pricing_zones (id, city_id, name, boundary) values (1, 1, 'all of it', '((-122.6,37.6),(-122.6,37.9),(-122.3,37.9),(-122.3,37.6))');
update rides set city_id = 1, pickup_zone_id = 1 where status = 'completed';
