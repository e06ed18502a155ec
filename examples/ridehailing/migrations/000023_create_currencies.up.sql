-- Currencies become rows, so that a code that does not exist cannot be written. Reference data.
create table currencies (
    code char(3) primary key,
    name text not null,
    symbol text not null,
    decimals smallint not null default 2,
    constraint currencies_code_check check (code ~ '^[A-Z]{3}$'),
    constraint currencies_decimals_check check (decimals between 0 and 3)
);
insert into currencies (code, name, symbol, decimals) values
    ('USD', 'US dollar', '$', 2), ('EUR', 'Euro', '€', 2), ('GBP', 'Pound sterling', '£', 2),
    ('JPY', 'Yen', '¥', 0), ('CHF', 'Swiss franc', 'CHF', 2), ('CAD', 'Canadian dollar', 'CA$', 2),
    ('AUD', 'Australian dollar', 'A$', 2), ('MXN', 'Mexican peso', 'MX$', 2), ('BRL', 'Real', 'R$', 2),
    ('INR', 'Indian rupee', '₹', 2), ('SGD', 'Singapore dollar', 'S$', 2), ('SEK', 'Swedish krona', 'kr', 2),
    ('NOK', 'Norwegian krone', 'kr', 2), ('DKK', 'Danish krone', 'kr', 2), ('PLN', 'Zloty', 'zł', 2),
    ('CZK', 'Czech koruna', 'Kč', 2), ('ZAR', 'Rand', 'R', 2), ('KES', 'Kenyan shilling', 'KSh', 2),
    ('AED', 'UAE dirham', 'AED', 2), ('KWD', 'Kuwaiti dinar', 'KD', 3);

-- Rides get the currency of their fare: the constant default costs no rewrite.
set local lock_timeout = '3s';
alter table rides add column currency char(3) not null default 'USD';
alter table rides add constraint rides_currency_fkey foreign key (currency) references currencies not valid;
alter table wallets add constraint wallets_currency_fkey foreign key (currency) references currencies not valid;
alter table payments add constraint payments_currency_fkey foreign key (currency) references currencies not valid;
comment on table currencies is 'ISO 4217 codes that we take';
