-- Closed periods, their statements, and the lines on them. One source for what a statement, a payout run and the
-- control totals say: the journal, cut at (position, ends_at), less what the cut before had.

-- name: insert_period
-- A version of a period: the cut before it is the newest version of the period closed before.
INSERT INTO periods (program_id, period, version, starts_at, ends_at, position, previous_period, previous_version,
                     previous_position, status, statement_count, line_count, closed_at)
VALUES (%(program_id)s, %(period)s, %(version)s, %(starts_at)s, %(ends_at)s, %(position)s, %(previous_period)s,
        %(previous_version)s, %(previous_position)s, 'closing', 0, 0, %(closed_at)s)

-- name: finish_period
-- All its statements are issued.
UPDATE periods SET status = 'closed', statement_count = %(statement_count)s, line_count = %(line_count)s
 WHERE program_id = %(program_id)s AND period = %(period)s AND version = %(version)s

-- name: select_cut
-- A version's cut; version null: the newest.
SELECT period, version, starts_at, ends_at, position, previous_period, previous_version, previous_position, status,
       statement_count, line_count, closed_at
  FROM periods WHERE program_id = %(program_id)s AND period = %(period)s
   AND (%(version)s::int IS NULL OR version = %(version)s)
 ORDER BY version DESC LIMIT 1

-- name: select_newest_cut_until
-- The newest closed cut that ends not after an instant and was made not after a position.
SELECT period, version, starts_at, ends_at, position, previous_period, previous_version, previous_position, status,
       statement_count, line_count, closed_at
  FROM periods WHERE program_id = %(program_id)s AND status = 'closed' AND ends_at <= %(ends_at)s
   AND position <= %(position)s
 ORDER BY ends_at DESC, version DESC LIMIT 1

-- name: select_periods
-- Versions of closed periods, newest first.
SELECT period, version, starts_at, ends_at, position, previous_period, previous_version, previous_position, status,
       statement_count, line_count, closed_at
  FROM periods WHERE program_id = %(program_id)s
   AND (%(before)s::timestamptz IS NULL OR (ends_at, version) < (%(before)s, %(before_version)s))
 ORDER BY ends_at DESC, version DESC LIMIT %(limit)s

-- name: carry_lines
-- Lines that the cut knows and that happen at its end or later: they wait for the next one.
INSERT INTO carried_lines (program_id, period, version, position, line_no)
SELECT j.program_id, %(period)s, %(version)s, j.position, j.line_no FROM journal j
 WHERE j.program_id = %(program_id)s
   AND j.generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
   AND j.position > %(previous_position)s AND j.position <= %(position)s AND j.effective_at >= %(ends_at)s
 UNION ALL
SELECT c.program_id, %(period)s, %(version)s, c.position, c.line_no
  FROM carried_lines c
 CROSS JOIN LATERAL (
       SELECT * FROM journal
        WHERE program_id = %(program_id)s AND position = c.position AND line_no = c.line_no
          AND generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
        LIMIT 1) j
 WHERE c.program_id = %(program_id)s AND c.period = %(previous_period)s AND c.version = %(previous_version)s
   AND j.effective_at >= %(ends_at)s
    ON CONFLICT DO NOTHING

-- name: select_lines
-- Every line between two cuts that is about an affiliate, with the event behind it; in the order of affiliates.
SELECT j.affiliate_id, j.position, j.line_no, j.debit, j.credit, j.amount, j.currency, j.effective_at, j.recorded_at,
       e.topic, coalesce(e.state::jsonb ->> 'order_id', e.state::jsonb ->> 'adjustment_id',
                         e.state::jsonb ->> 'payout_id', '')
  FROM (SELECT * FROM journal
         WHERE program_id = %(program_id)s AND position > %(previous_position)s AND position <= %(position)s
           AND effective_at < %(ends_at)s AND affiliate_id <> ''
           AND generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
         UNION ALL
        SELECT w.* FROM carried_lines c
         CROSS JOIN LATERAL (
               SELECT * FROM journal
                WHERE program_id = %(program_id)s AND position = c.position AND line_no = c.line_no
                  AND generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
                LIMIT 1) w
         WHERE c.program_id = %(program_id)s AND c.period = %(previous_period)s AND c.version = %(previous_version)s
           AND w.effective_at < %(ends_at)s AND w.affiliate_id <> '') j
  JOIN book_events e ON e.program_id = %(program_id)s AND e.position = j.position
 ORDER BY j.affiliate_id, j.position, j.line_no

-- name: select_affiliate_lines
-- One affiliate's lines between two cuts, found through its accounts. A line between two of them is found by its debit.
SELECT j.affiliate_id, j.position, j.line_no, j.debit, j.credit, j.amount, j.currency, j.effective_at, j.recorded_at,
       e.topic, coalesce(e.state::jsonb ->> 'order_id', e.state::jsonb ->> 'adjustment_id',
                         e.state::jsonb ->> 'payout_id', '')
  FROM (SELECT s.* FROM balances b
         CROSS JOIN LATERAL (
               (SELECT * FROM journal
                 WHERE program_id = %(program_id)s AND generation = b.generation AND debit = b.account
                   AND currency = b.currency AND position > %(previous_position)s AND position <= %(position)s)
               UNION ALL
               (SELECT * FROM journal
                 WHERE program_id = %(program_id)s AND generation = b.generation AND credit = b.account
                   AND currency = b.currency AND position > %(previous_position)s AND position <= %(position)s
                   AND (debit LIKE 'expense:%%' OR debit LIKE 'tax:%%'))) s
         WHERE b.program_id = %(program_id)s AND b.affiliate_id = %(affiliate_id)s
           AND b.generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
           AND s.effective_at < %(ends_at)s
         UNION ALL
        SELECT w.* FROM carried_lines c
         CROSS JOIN LATERAL (
               SELECT * FROM journal
                WHERE program_id = %(program_id)s AND position = c.position AND line_no = c.line_no
                  AND generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
                LIMIT 1) w
         WHERE c.program_id = %(program_id)s AND c.period = %(previous_period)s AND c.version = %(previous_version)s
           AND w.effective_at < %(ends_at)s AND w.affiliate_id = %(affiliate_id)s) j
  JOIN book_events e ON e.program_id = %(program_id)s AND e.position = j.position
 ORDER BY j.position, j.line_no

-- name: insert_statements
-- Issued statements: never changed.
INSERT INTO statements (program_id, affiliate_id, period, version, ends_at, sections, line_count, hash, position)
SELECT %(program_id)s, v.affiliate_id, v.period, v.version, v.ends_at, v.sections, v.line_count, v.hash, v.position
  FROM jsonb_to_recordset(%(rows)s::jsonb) AS v (affiliate_id text, period text, version integer, ends_at timestamptz,
       sections jsonb, line_count bigint, hash text, position bigint)

-- name: select_openings
-- What each affiliate's last statement before a cut closed with: what its next one opens with.
SELECT DISTINCT ON (affiliate_id) affiliate_id, sections::text FROM statements
 WHERE program_id = %(program_id)s AND ends_at <= coalesce(%(starts_at)s, '-infinity'::timestamptz)
   AND (%(affiliate_id)s::text IS NULL OR affiliate_id = %(affiliate_id)s)
 ORDER BY affiliate_id, ends_at DESC, version DESC

-- name: select_issued
-- Whose statement of a version is issued already.
SELECT affiliate_id FROM statements
 WHERE program_id = %(program_id)s AND period = %(period)s AND version = %(version)s

-- name: select_newest_statements
-- The statements of a period as they stand: of each affiliate the newest version up to one.
SELECT DISTINCT ON (affiliate_id) affiliate_id, sections::text, line_count, hash FROM statements
 WHERE program_id = %(program_id)s AND period = %(period)s AND version <= %(version)s
 ORDER BY affiliate_id, version DESC

-- name: select_statements
-- An affiliate's statements, newest first.
SELECT period, version, ends_at, sections::text, line_count, hash, position FROM statements
 WHERE program_id = %(program_id)s AND affiliate_id = %(affiliate_id)s
   AND (%(period)s::text IS NULL OR period = %(period)s)
   AND (%(before)s::timestamptz IS NULL OR (ends_at, version) < (%(before)s, %(before_version)s))
 ORDER BY ends_at DESC, version DESC LIMIT %(limit)s

-- name: select_changed_since
-- Who has lines between an earlier cut of a period and a later one.
SELECT DISTINCT affiliate_id FROM journal
 WHERE program_id = %(program_id)s AND position > %(from_position)s AND position <= %(position)s
   AND effective_at < %(ends_at)s AND affiliate_id <> ''
   AND generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')

-- name: select_control_totals
-- What the affiliates' accounts moved between two cuts, by bucket, added up from both sides of the journal: a second
-- way to the sum of the statements.
SELECT side.currency, CASE WHEN side.account LIKE 'asset:bank:%%' THEN 'paid' ELSE split_part(side.account, ':', 3) END,
       sum(side.amount)::bigint
  FROM journal j
 CROSS JOIN LATERAL (VALUES (j.debit, j.currency, -j.amount), (j.credit, j.currency, j.amount))
       AS side (account, currency, amount)
 WHERE j.program_id = %(program_id)s AND j.position <= %(position)s AND j.effective_at < %(ends_at)s
   AND (side.account LIKE 'liability:%%' OR side.account LIKE 'asset:bank:%%')
   AND j.generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
 GROUP BY 1, 2 ORDER BY 1, 2

-- name: select_sent_outside
-- What left the payable balance outside of a cut, by affiliate, less what came back to it outside.
SELECT affiliate_id,
       sum(amount * (CASE WHEN initiated_position > %(position)s OR initiated_at >= %(ends_at)s THEN 1 ELSE 0 END
                   - CASE WHEN status IN ('failed', 'returned') AND (position > %(position)s OR ended_at >= %(ends_at)s)
                          THEN 1 ELSE 0 END))::bigint
  FROM payouts
 WHERE program_id = %(program_id)s AND currency = %(currency)s AND initiated_position IS NOT NULL
   AND (position > %(position)s OR initiated_at >= %(ends_at)s OR ended_at >= %(ends_at)s)
 GROUP BY affiliate_id

-- name: select_closing_totals
-- What the newest statements up to an instant close with, added up by currency and bucket.
SELECT s ->> 'currency', b.key, sum(b.value::bigint)::bigint
  FROM (SELECT DISTINCT ON (affiliate_id) sections FROM statements
         WHERE program_id = %(program_id)s AND ends_at <= %(ends_at)s
         ORDER BY affiliate_id, ends_at DESC, version DESC) newest
 CROSS JOIN LATERAL jsonb_array_elements(newest.sections) s
 CROSS JOIN LATERAL jsonb_each_text(s -> 'closing') b
 GROUP BY 1, 2 ORDER BY 1, 2

-- name: select_closing_payables
-- What is payable in a currency by the statements up to a cut: its own version and what came before, no later reissue.
SELECT newest.affiliate_id, (s -> 'closing' ->> 'payable')::bigint
  FROM (SELECT DISTINCT ON (affiliate_id) affiliate_id, sections FROM statements
         WHERE program_id = %(program_id)s AND (ends_at < %(ends_at)s OR ends_at = %(ends_at)s AND version <= %(version)s)
         ORDER BY affiliate_id, ends_at DESC, version DESC) newest
 CROSS JOIN LATERAL jsonb_array_elements(newest.sections) s
 WHERE s ->> 'currency' = %(currency)s AND s -> 'closing' ? 'payable'

-- name: select_payable_movements
-- What the lines between two cuts moved on the payable accounts of a currency, by affiliate.
SELECT j.affiliate_id, sum(CASE WHEN j.credit = 'liability:' || j.affiliate_id || ':payable' THEN j.amount
                                WHEN j.debit = 'liability:' || j.affiliate_id || ':payable' THEN -j.amount
                                ELSE 0 END)::bigint
  FROM (SELECT * FROM journal
         WHERE program_id = %(program_id)s AND position > %(previous_position)s AND position <= %(position)s
           AND effective_at < %(ends_at)s AND affiliate_id <> ''
           AND generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
         UNION ALL
        SELECT w.* FROM carried_lines c
         CROSS JOIN LATERAL (
               SELECT * FROM journal
                WHERE program_id = %(program_id)s AND position = c.position AND line_no = c.line_no
                  AND generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
                LIMIT 1) w
         WHERE c.program_id = %(program_id)s AND c.period = %(previous_period)s AND c.version = %(previous_version)s
           AND w.effective_at < %(ends_at)s AND w.affiliate_id <> '') j
 WHERE j.currency = %(currency)s
 GROUP BY j.affiliate_id
