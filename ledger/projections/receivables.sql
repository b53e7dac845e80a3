-- What affiliates owe the program. Amounts are minor units; an account's amount is its debits less its credits, so a
-- payable account above zero is a debt of the affiliate's.

-- name: select_receivables
-- Payable balances below zero, with the line that took each below zero last: as the balance is still there, it is the
-- last debit before which nothing was owed.
SELECT owing.affiliate_id, owing.currency, owing.amount, crossing.recorded_at, crossing.position
  FROM balances owing
 CROSS JOIN LATERAL (
       SELECT recorded_at, position FROM journal
        WHERE program_id = %(program_id)s AND generation = owing.generation AND debit = owing.account
          AND currency = owing.currency AND debit_balance > 0 AND debit_balance - amount <= 0
        ORDER BY position DESC, line_no DESC LIMIT 1) crossing
 WHERE owing.program_id = %(program_id)s
   AND owing.generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
   AND owing.amount > 0 AND owing.account = 'liability:' || owing.affiliate_id || ':payable'
   AND (%(affiliate_id)s::text IS NULL OR owing.affiliate_id = %(affiliate_id)s)
 ORDER BY owing.affiliate_id, owing.currency
