-- Goals: what an affiliate's progress is measured in.

-- name: select_currencies
-- The currencies in which an affiliate's conversions of an offer were counted in a period.
SELECT currency FROM plan_counters
 WHERE program_id = %(program_id)s AND offer_id = %(offer_id)s AND affiliate_id = %(affiliate_id)s
   AND period = %(period)s
 ORDER BY currency
