-- Economy, comfort, van: each ride gets a type. The rows are reference data, so they come with the schema.
create table ride_types (
    id smallint primary key,
    name text not null,
    description text not null,
    capacity smallint not null,
    icon text,
    sort_order smallint not null,
    is_active boolean not null default true,
    constraint ride_types_name_key unique (name),
    constraint ride_types_capacity_check check (capacity > 0)
);
insert into ride_types (id, name, description, capacity, icon, sort_order) values
    (1, 'economy', 'The usual car for up to four', 4, 'car', 1),
    (2, 'comfort', 'A newer car with more room', 4, 'car-comfort', 2),
    (3, 'van', 'Up to six, with luggage', 6, 'van', 3);

-- A constant default costs nothing on existing rows. NOT VALID looks at new rows only; 000012 looks at the old ones.
set local lock_timeout = '3s';
alter table rides
    add column ride_type_id smallint default 1,
    add constraint rides_ride_type_id_fkey foreign key (ride_type_id) references ride_types not valid;
comment on table ride_types is 'What can be ordered';
