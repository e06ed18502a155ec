-- Back to an empty schema.
drop table if exists users;
