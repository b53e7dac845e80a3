-- Conversions: what is done about the rows of those that were there before, and what is asked of all.

-- name: update_first
-- What can change in a conversion's first row: all that depends on who is credited, and on what became of it.
UPDATE conversions c
   SET status = v.status, affiliate_id = v.affiliate_id, level = v.level, amount = v.amount,
       commission_currency = v.commission_currency, commission = v.commission, reversed_amount = v.reversed_amount,
       reversed_commission = v.reversed_commission, due_at = v.due_at, position = v.position
  FROM jsonb_to_recordset(%(rows)s::jsonb) AS v (originator_id uuid, status text, affiliate_id text, level smallint,
       amount bigint, commission_currency text, commission bigint, reversed_amount bigint, reversed_commission bigint,
       due_at timestamptz, position bigint)
 WHERE c.program_id = %(program_id)s AND c.originator_id = v.originator_id AND c.share_no = 1

-- name: upsert_others
-- The same of the rows behind the first, which come when somebody is credited.
INSERT INTO conversions AS c (program_id, originator_id, share_no, order_id, status, affiliate_id, level, offer_id,
       currency, amount, commission_currency, commission, reversed_amount, reversed_commission, occurred_at, due_at,
       position, customer_id, event_id, channel)
SELECT %(program_id)s, originator_id, share_no, order_id, status, affiliate_id, level, offer_id, currency, amount,
       commission_currency, commission, reversed_amount, reversed_commission, occurred_at, due_at, position,
       customer_id, event_id, channel
  FROM jsonb_to_recordset(%(rows)s::jsonb) AS v (originator_id uuid, share_no smallint, order_id text, status text,
       affiliate_id text, level smallint, offer_id text, currency text, amount bigint, commission_currency text,
       commission bigint, reversed_amount bigint, reversed_commission bigint, occurred_at timestamptz,
       due_at timestamptz, position bigint, customer_id text, event_id text, channel text)
    ON CONFLICT (program_id, originator_id, share_no) DO UPDATE
   SET status = EXCLUDED.status, amount = EXCLUDED.amount, commission = EXCLUDED.commission,
       reversed_amount = EXCLUDED.reversed_amount,
       reversed_commission = EXCLUDED.reversed_commission, due_at = EXCLUDED.due_at, position = EXCLUDED.position

-- name: select_due
-- The orders of pending commissions that have matured, or that wait for their click, oldest first. An order of several
-- is found by the first that qualifies.
SELECT c.order_id FROM conversions c
 WHERE c.program_id = %(program_id)s AND c.status = %(status)s
   AND c.due_at <= coalesce(%(at)s, 'infinity'::timestamptz)
   AND (c.share_no = 1 OR NOT EXISTS (
        SELECT FROM conversions o
         WHERE o.program_id = %(program_id)s AND o.originator_id = c.originator_id AND o.share_no < c.share_no
           AND o.status = c.status AND o.due_at <= coalesce(%(at)s, 'infinity'::timestamptz)))
 ORDER BY c.due_at
 LIMIT %(limit)s

-- name: select_held
-- What is held of approved affiliates, or of one.
SELECT c.order_id, c.affiliate_id
  FROM conversions c
  JOIN directory d ON d.program_id = %(program_id)s AND d.kind = 'affiliate' AND d.record_id = c.affiliate_id
                  AND d.status = 'approved'
 WHERE c.program_id = %(program_id)s AND c.status = 'held'
   AND (%(affiliate_id)s::text IS NULL OR c.affiliate_id = %(affiliate_id)s)
 ORDER BY c.position, c.share_no
