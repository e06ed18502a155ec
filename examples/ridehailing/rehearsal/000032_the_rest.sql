-- Ratings, predictions, trouble: the tables that came late.
insert into ratings (ride_id, rater_id, ratee_id, score) select id, rider_id, driver_id, 4 from rides where status = 'completed' limit 50;
insert into eta_predictions (ride_id, pickup_latitude, pickup_longitude, dropoff_latitude, dropoff_longitude, distance, predicted_minutes,
                             actual_minutes, time_of_day, day_of_week, confidence)
select id, 37.7, -122.4, 37.75, -122.45, 4.2, 12, actual_duration, 9, 1, 0.8 from rides where status = 'completed';
insert into support_tickets (user_id, subject) select id, 'Lost umbrella' from users where role = 'rider' limit 5;
update payments set metadata = '{"provider": "demo", "checked": true}' where status = 'failed';
