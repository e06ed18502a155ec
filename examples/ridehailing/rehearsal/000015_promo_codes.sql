-- A code of each kind, and some uses.
insert into promo_codes (id, code, discount_type, discount_value, valid_from, valid_until, created_by) values
    (md5('promo1')::uuid, 'WELCOME', 'percentage', 20, '2026-01-01', '2027-01-01', md5('user1')::uuid),
    (md5('promo2')::uuid, 'FIVE', 'fixed_amount', 5, '2026-01-01', '2027-01-01', null);
insert into promo_code_uses (promo_code_id, user_id, ride_id, discount_amount, original_amount, final_amount)
select md5('promo2')::uuid, rider_id, id, 5, 16, 11 from rides where status = 'completed' order by id limit 20;
update rides set promo_code_id = md5('promo2')::uuid, discount_amount = 5 where id in (select ride_id from promo_code_uses);
