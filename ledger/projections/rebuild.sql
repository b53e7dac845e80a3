-- The rebuild's questions: from the log to a new generation of the books, and how it differs from the live one.

-- name: select_posting_events
-- The next events that may move money, behind a position.
SELECT position, topic, state, recorded_at FROM book_events
 WHERE program_id = %(program_id)s AND position > %(after)s AND position <= %(upto)s
 ORDER BY position

-- name: select_last_generation
-- The highest generation that any row of the books has, live or left behind.
SELECT greatest(
       (SELECT max(generation) FROM journal WHERE program_id = %(program_id)s),
       (SELECT max(generation) FROM balances WHERE program_id = %(program_id)s),
       (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books'))

-- name: select_first_different_line
-- The first journal line that the two generations do not have in common.
SELECT coalesce(live.position, built.position), coalesce(live.line_no, built.line_no),
       to_jsonb(built), to_jsonb(live)
  FROM (SELECT position, line_no, debit, credit, amount, currency, effective_at, recorded_at, affiliate_id,
               debit_balance, credit_balance
          FROM journal WHERE program_id = %(program_id)s AND generation = %(live)s) live
  FULL JOIN
       (SELECT position, line_no, debit, credit, amount, currency, effective_at, recorded_at, affiliate_id,
               debit_balance, credit_balance
          FROM journal WHERE program_id = %(program_id)s AND generation = %(built)s) built
    ON live.position = built.position AND live.line_no = built.line_no
 WHERE live IS DISTINCT FROM built
 ORDER BY 1, 2
 LIMIT 1

-- name: select_first_different_balance
-- The first account that the two generations do not agree on.
SELECT coalesce(live.account, built.account), coalesce(live.currency, built.currency), built.amount, live.amount
  FROM (SELECT account, currency, amount, position FROM balances
         WHERE program_id = %(program_id)s AND generation = %(live)s) live
  FULL JOIN
       (SELECT account, currency, amount, position FROM balances
         WHERE program_id = %(program_id)s AND generation = %(built)s) built
    ON live.account = built.account AND live.currency = built.currency
 WHERE live.amount IS DISTINCT FROM built.amount OR live.position IS DISTINCT FROM built.position
 ORDER BY 1, 2
 LIMIT 1

-- name: swap_generation
-- From now on the new generation is the live one.
UPDATE log_heads SET generation = %(built)s WHERE program_id = %(program_id)s AND log = 'books'

-- name: delete_old_journal
-- Clear away lines of generations that are not live (as the owner; a live line refuses).
DELETE FROM journal WHERE program_id = %(program_id)s AND generation < %(live)s

-- name: delete_old_balances
-- Clear away balances of generations that are not live.
DELETE FROM balances WHERE program_id = %(program_id)s AND generation < %(live)s
