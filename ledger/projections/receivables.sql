-- What affiliates owe the program. Amounts are minor units; an account's amount is its debits less its credits, so a
-- payable account above zero is a debt of the affiliate's.

-- name: every_receivable
-- Payable balances below zero, with the line that took each below zero last: as the balance is still there, it is the
-- last debit before which nothing was owed. Goes before the other blocks' SELECT.
WITH receivable AS (
SELECT owing.affiliate_id, owing.currency, owing.amount, crossing.recorded_at AS since, crossing.position,
       greatest(0, floor(extract(epoch FROM %(now)s - crossing.recorded_at) / 86400))::int AS age_days
  FROM balances owing
 CROSS JOIN LATERAL (
       SELECT recorded_at, position FROM journal
        WHERE program_id = %(program_id)s AND generation = owing.generation AND debit = owing.account
          AND currency = owing.currency AND debit_balance > 0 AND debit_balance - amount <= 0
        ORDER BY position DESC, line_no DESC LIMIT 1) crossing
 WHERE owing.program_id = %(program_id)s
   AND owing.generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
   AND owing.amount > 0 AND owing.account = 'liability:' || owing.affiliate_id || ':payable'
   AND (owing.affiliate_id, owing.currency) > (%(after_affiliate)s, %(after_currency)s)),
aged AS (
SELECT receivable.*, CASE WHEN age_days <= 30 THEN '0-30' WHEN age_days <= 60 THEN '31-60'
                          WHEN age_days <= 90 THEN '61-90' ELSE '>90' END AS age
  FROM receivable)

-- name: select_page
-- Receivables in the order of affiliates and currencies.
SELECT affiliate_id, currency, amount, since, age_days, age, position FROM aged
 ORDER BY affiliate_id, currency LIMIT %(limit)s

-- name: select_ageing
-- Receivables by currency and age: how many, and their sum.
SELECT currency, age, count(*), sum(amount)::bigint FROM aged
 GROUP BY currency, age
 ORDER BY currency, min(age_days)
