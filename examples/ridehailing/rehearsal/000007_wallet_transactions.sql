-- What is on the wallets came by a top-up.
insert into wallet_transactions (wallet_id, user_id, payment_method_id, type, amount, balance_before, balance_after, description)
select w.id, w.user_id, m.id, 'top_up', w.balance, 0, w.balance, 'First top-up'
from wallets w join payment_methods m on m.user_id = w.user_id where w.balance > 0;
