-- What was paid to affiliates in a year, for tax reports. Amounts are minor units.

-- name: select_tax_totals
-- By affiliate, currency and quarter: settlements less returns, each by the day on which the bank booked it. starts:
-- the first instants of the quarters. The journal says what was booked and when, found through the bank accounts; the
-- payout behind the event says of what it was made.
SELECT booked.affiliate_id, booked.currency,
       width_bucket(booked.effective_at, %(starts)s::timestamptz[]) AS quarter,
       count(*) FILTER (WHERE booked.sign > 0), count(*) FILTER (WHERE booked.sign < 0),
       sum(booked.sign * p.amount)::bigint, sum(booked.sign * p.vat_amount)::bigint,
       sum(booked.sign * p.withholding_amount)::bigint
  FROM (SELECT b.affiliate_id, b.currency, moved.position, moved.effective_at, moved.sign
          FROM balances b
         CROSS JOIN LATERAL (
               SELECT position, effective_at, 1 AS sign FROM journal
                WHERE program_id = %(program_id)s AND generation = b.generation AND credit = b.account
                  AND currency = b.currency AND debit = 'liability:' || b.affiliate_id || ':in_transit'
                  AND effective_at >= %(from)s AND effective_at < %(until)s
                UNION ALL
               SELECT position, effective_at, -1 FROM journal
                WHERE program_id = %(program_id)s AND generation = b.generation AND debit = b.account
                  AND currency = b.currency AND credit = 'liability:' || b.affiliate_id || ':payable'
                  AND effective_at >= %(from)s AND effective_at < %(until)s) moved
         WHERE b.program_id = %(program_id)s AND b.account LIKE 'asset:bank:%%'
           AND b.generation = (SELECT generation FROM log_heads
                                WHERE program_id = %(program_id)s AND log = 'books')) booked
  JOIN book_events e ON e.program_id = %(program_id)s AND e.position = booked.position
  JOIN payouts p ON p.program_id = %(program_id)s AND p.payout_id = e.state::jsonb ->> 'payout_id'
 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
