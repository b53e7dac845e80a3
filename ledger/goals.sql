-- Goals: what an affiliate's progress is measured in, and what it earned.

-- name: select_currencies
-- The currencies in which an affiliate's conversions of an offer were counted in a period.
SELECT currency FROM plan_counters
 WHERE program_id = %(program_id)s AND offer_id = %(offer_id)s AND affiliate_id = %(affiliate_id)s
   AND period = %(period)s
 ORDER BY currency

-- name: select_bonuses
-- The bonuses that an affiliate earned by goals of some offers: orders of the ledger's own with the event 'goal'.
SELECT originator_id, status FROM conversions
 WHERE program_id = %(program_id)s AND offer_id = ANY(%(offers)s) AND affiliate_id = %(affiliate_id)s
   AND event_id = 'goal' AND left(order_id, 6) = '~goal-' AND level = 1
