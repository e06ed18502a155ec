-- Constraints cannot be made unvalidated; they are put back as they were.
set local lock_timeout = '3s';
alter table rides drop constraint if exists rides_currency_fkey;
alter table rides add constraint rides_currency_fkey foreign key (currency) references currencies not valid;
alter table payments drop constraint if exists payments_currency_fkey;
alter table payments add constraint payments_currency_fkey foreign key (currency) references currencies not valid;
alter table wallets drop constraint if exists wallets_currency_fkey;
alter table wallets add constraint wallets_currency_fkey foreign key (currency) references currencies not valid;
