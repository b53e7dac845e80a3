-- What a journal for other tools is made of: the live books between two marks. A mark is (position, instant): what had
-- happened before the instant, as far as it was known after the position. The lines of a journal are those before its
-- end and not before its start; without a start, start_position is 0.

-- name: select_mark
-- The cut that an instant belongs to: the newest version of the first closed period that ends then or later.
SELECT position FROM periods
 WHERE program_id = %(program_id)s AND ends_at >= %(instant)s
 ORDER BY ends_at, version DESC LIMIT 1

-- name: select_accounts
-- Every account before the end: what it held at the start, what it moved since, and in how many lines each.
SELECT side.account, side.currency,
       coalesce(sum(side.amount) FILTER (WHERE j.is_before), 0),
       coalesce(sum(side.amount) FILTER (WHERE NOT j.is_before), 0),
       count(*) FILTER (WHERE j.is_before),
       count(*) FILTER (WHERE NOT j.is_before)
  FROM (SELECT debit, credit, amount, currency,
               position <= %(start_position)s AND effective_at < %(start_instant)s AS is_before
          FROM journal
         WHERE program_id = %(program_id)s AND position <= %(position)s AND effective_at < %(instant)s
           AND generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')) j
 CROSS JOIN LATERAL (VALUES (j.debit, j.currency, j.amount), (j.credit, j.currency, -j.amount))
       AS side (account, currency, amount)
 GROUP BY side.account, side.currency
 ORDER BY side.account COLLATE "C", side.currency COLLATE "C"

-- name: select_control_totals
-- The lines themselves by currency: events and lines, the sum of amounts, the first instant and the last.
SELECT currency, count(*) FILTER (WHERE line_no = 1), count(*), sum(amount), min(effective_at),
       max(greatest(effective_at, recorded_at))
  FROM journal
 WHERE program_id = %(program_id)s AND position <= %(position)s AND effective_at < %(instant)s
   AND NOT (position <= %(start_position)s AND effective_at < %(start_instant)s)
   AND generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
 GROUP BY currency ORDER BY currency COLLATE "C"

-- name: select_lines
-- The lines with the events behind them, in the order of the log.
SELECT j.position, j.line_no, j.debit, j.credit, j.amount, j.currency, j.effective_at, j.recorded_at, j.affiliate_id,
       e.topic, coalesce(e.state::jsonb ->> 'order_id', e.state::jsonb ->> 'adjustment_id',
                         e.state::jsonb ->> 'payout_id', e.state::jsonb ->> 'line_id', '')
  FROM journal j
  JOIN book_events e ON e.program_id = %(program_id)s AND e.position = j.position
 WHERE j.program_id = %(program_id)s AND j.position <= %(position)s AND j.effective_at < %(instant)s
   AND NOT (j.position <= %(start_position)s AND j.effective_at < %(start_instant)s)
   AND j.generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
 ORDER BY j.position, j.line_no

-- name: select_checkpoint
-- The first sealed checkpoint that covers a position.
SELECT size, root FROM checkpoints
 WHERE program_id = %(program_id)s AND log = 'books' AND size >= %(position)s
 ORDER BY size LIMIT 1
