-- The rebuild's questions: from the log to a new generation of the books, and how it differs from the live one.

-- name: select_posting_events
-- The next events that may move money, behind a position.
SELECT position, topic, state, recorded_at FROM book_events
 WHERE program_id = %(program_id)s AND position > %(after)s AND position <= %(upto)s AND topic = ANY(%(topics)s)
 ORDER BY position

-- name: select_generations
-- The live generation, and the highest that any row of the books has, live or left behind.
SELECT generation,
       greatest(generation,
                (SELECT max(generation) FROM journal WHERE program_id = %(program_id)s),
                (SELECT max(generation) FROM balances WHERE program_id = %(program_id)s))
  FROM log_heads WHERE program_id = %(program_id)s AND log = 'books'

-- name: copy_live_lines
-- The live lines behind a position as they would stand in the new generation: equal ones are equal byte by byte.
COPY (SELECT program_id, %(built)s::int, position, line_no, debit, credit, amount, currency, effective_at, recorded_at,
             affiliate_id, debit_balance, credit_balance
        FROM journal
       WHERE program_id = %(program_id)s AND generation = %(live)s AND position > %(after)s AND position <= %(upto)s
       ORDER BY position, line_no) TO STDOUT (FORMAT BINARY)

-- name: select_first_different_balance
-- The first account that the two generations do not agree on.
SELECT coalesce(live.account, built.account), coalesce(live.currency, built.currency), built.amount, live.amount
  FROM (SELECT account, currency, affiliate_id, amount, position FROM balances
         WHERE program_id = %(program_id)s AND generation = %(live)s) live
  FULL JOIN
       (SELECT account, currency, affiliate_id, amount, position FROM balances
         WHERE program_id = %(program_id)s AND generation = %(built)s) built
    ON live.account = built.account AND live.currency = built.currency
 WHERE (live.amount, live.position, live.affiliate_id) IS DISTINCT FROM (built.amount, built.position, built.affiliate_id)
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
