-- The books' questions. Amounts are minor units; an account's amount is its debits less its credits.

-- name: select_balances
-- What some accounts hold now; the caller holds the head's lock. One probe each, as in ledger/store/log.py: with
-- statistics that lag behind, the planner has compared every account of a program with the whole list.
SELECT b.account, b.currency, b.amount
  FROM unnest(%(accounts)s::text[]) AS wanted (account)
 CROSS JOIN LATERAL (
       SELECT account, currency, amount FROM balances
        WHERE program_id = %(program_id)s AND generation = %(generation)s AND account = wanted.account
        ORDER BY currency LIMIT 2000000000) b

-- name: update_balances
-- What some accounts hold after a batch.
UPDATE balances b SET amount = v.amount, position = v.position
  FROM jsonb_to_recordset(%(rows)s::jsonb) AS v (account text, currency text, amount bigint, position bigint)
 WHERE b.program_id = %(program_id)s AND b.generation = %(generation)s AND b.account = v.account
   AND b.currency = v.currency

-- name: select_affiliate_balances
-- What is owed to one affiliate now.
SELECT account, currency, amount FROM balances
 WHERE program_id = %(program_id)s AND affiliate_id = %(affiliate_id)s
   AND generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')

-- name: select_has_entry
-- Whether an affiliate has an entry at a position.
SELECT EXISTS (SELECT FROM journal
        WHERE program_id = %(program_id)s AND position = %(position)s AND affiliate_id = %(affiliate_id)s
          AND generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books'))

-- name: select_all_balances
-- What every account holds now.
SELECT account, currency, amount, affiliate_id FROM balances
 WHERE program_id = %(program_id)s
   AND generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
 ORDER BY account, currency

-- name: select_balances_at_position
-- What some accounts held after a position: each the balance written by its last line as debit or as credit,
-- whichever came later; two index probes an account.
SELECT known.account, known.currency, last.balance
  FROM balances known
 CROSS JOIN LATERAL (
       SELECT * FROM (
              (SELECT position, line_no, debit_balance AS balance FROM journal
                WHERE program_id = %(program_id)s AND generation = known.generation AND debit = known.account
                  AND currency = known.currency AND position <= %(position)s
                ORDER BY position DESC, line_no DESC LIMIT 1)
              UNION ALL
              (SELECT position, line_no, credit_balance FROM journal
                WHERE program_id = %(program_id)s AND generation = known.generation AND credit = known.account
                  AND currency = known.currency AND position <= %(position)s
                ORDER BY position DESC, line_no DESC LIMIT 1)) either
        ORDER BY position DESC, line_no DESC LIMIT 1) last
 WHERE known.program_id = %(program_id)s
   AND known.generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
   AND (%(affiliate_id)s::text IS NULL OR known.affiliate_id = %(affiliate_id)s)
 ORDER BY known.account, known.currency

-- name: select_effective_balances
-- What some accounts held by what had happened before an instant, as far as it was known after a position.
SELECT known.account, known.currency,
       (SELECT coalesce(sum(amount), 0) FROM journal
         WHERE program_id = %(program_id)s AND generation = known.generation AND debit = known.account
           AND currency = known.currency AND position <= %(position)s AND effective_at < %(effective)s)::bigint
     - (SELECT coalesce(sum(amount), 0) FROM journal
         WHERE program_id = %(program_id)s AND generation = known.generation AND credit = known.account
           AND currency = known.currency AND position <= %(position)s AND effective_at < %(effective)s)::bigint
  FROM balances known
 WHERE known.program_id = %(program_id)s
   AND known.generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
   AND (%(affiliate_id)s::text IS NULL OR known.affiliate_id = %(affiliate_id)s)
 ORDER BY known.account, known.currency

-- name: select_entries
-- An affiliate's lines behind a cursor, oldest first: a few from each of its accounts, merged. A line between two of
-- its own accounts is found by its debit.
SELECT j.position, j.line_no, j.debit, j.credit, j.amount, j.currency, j.effective_at, j.recorded_at,
       e.topic, coalesce(e.state::jsonb ->> 'order_id', e.state::jsonb ->> 'adjustment_id', e.state::jsonb ->> 'payout_id')
  FROM (SELECT account, currency, generation FROM balances
         WHERE program_id = %(program_id)s AND affiliate_id = %(affiliate_id)s
           AND generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')) own
 CROSS JOIN LATERAL (
       (SELECT * FROM journal
         WHERE program_id = %(program_id)s AND generation = own.generation AND debit = own.account
           AND currency = own.currency AND (position, line_no) > (%(position)s, %(line_no)s)
         ORDER BY position, line_no LIMIT %(limit)s)
       UNION ALL
       (SELECT * FROM journal
         WHERE program_id = %(program_id)s AND generation = own.generation AND credit = own.account
           AND currency = own.currency AND (position, line_no) > (%(position)s, %(line_no)s)
           AND (debit LIKE 'expense:%%' OR debit LIKE 'tax:%%')
         ORDER BY position, line_no LIMIT %(limit)s)) j
  JOIN book_events e ON e.program_id = %(program_id)s AND e.position = j.position
 ORDER BY j.position, j.line_no
 LIMIT %(limit)s

-- name: select_lines_of_positions
-- The lines that some events made.
SELECT position, line_no, debit, credit, amount, currency, effective_at FROM journal
 WHERE program_id = %(program_id)s AND position = ANY(%(positions)s)
   AND generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
 ORDER BY position, line_no
