-- A run against its bank lines, payout by payout. Amounts are minor units.

-- name: select_bank_of_run
-- What the bank's lines say of each payout of a run: how many, what left the account and what came back (both above
-- zero). Charges booked on lines of their own belong to no payout's amount. Payouts without a line are left out.
SELECT p.payout_id, count(*), coalesce(-sum(b.amount) FILTER (WHERE b.amount < 0), 0)::bigint,
       coalesce(sum(b.amount) FILTER (WHERE b.amount > 0), 0)::bigint
  FROM payouts p JOIN bank_lines b ON b.program_id = %(program_id)s AND b.payout_id = p.payout_id
 WHERE p.program_id = %(program_id)s AND p.run_id = %(run_id)s AND b.outcome <> 'fee'
 GROUP BY p.payout_id ORDER BY p.payout_id
