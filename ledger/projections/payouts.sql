-- Payout runs, payouts and bank lines. Amounts are minor units.

-- name: update_payouts
-- What became of some payouts.
UPDATE payouts p SET status = v.status, fee_amount = v.fee_amount, invoice_number = v.invoice_number,
       reason = v.reason, initiated_at = v.initiated_at,
       initiated_position = coalesce(v.initiated_position, p.initiated_position), ended_at = v.ended_at,
       bank_line_id = v.bank_line_id, position = v.position
  FROM jsonb_to_recordset(%(rows)s::jsonb) AS v (payout_id text, status text, fee_amount bigint, invoice_number text,
       reason text, initiated_at timestamptz, initiated_position bigint, ended_at timestamptz, bank_line_id text,
       position bigint)
 WHERE p.program_id = %(program_id)s AND p.payout_id = v.payout_id

-- name: upsert_run
-- Where a run stands.
INSERT INTO payout_runs (program_id, run_id, period, currency, method, attempt, status, cut_position, ends_at, position)
VALUES (%(program_id)s, %(run_id)s, %(period)s, %(currency)s, %(method)s, %(attempt)s, %(status)s, %(cut_position)s,
        %(ends_at)s, %(position)s)
    ON CONFLICT (program_id, run_id) DO UPDATE SET status = EXCLUDED.status, position = EXCLUDED.position

-- name: select_proposed
-- The payouts of some affiliates that are proposed and not decided.
SELECT affiliate_id, currency, payout_id, run_id FROM payouts
 WHERE program_id = %(program_id)s AND status = 'proposed' AND affiliate_id = ANY(%(affiliates)s)

-- name: select_run_payouts
-- A run's payouts behind an id, in the order of ids.
SELECT payout_id, affiliate_id, currency, method, method_version, fingerprint, status, amount, owed_amount, vat_amount,
       withholding_amount, fee_amount, invoice_number, reason, initiated_at, ended_at, bank_line_id, position, run_id
  FROM payouts
 WHERE program_id = %(program_id)s AND run_id = %(run_id)s AND payout_id > %(after)s
   AND (%(status)s::text IS NULL OR status = %(status)s)
 ORDER BY payout_id LIMIT %(limit)s

-- name: select_payouts
-- Payouts behind an id, in the order of ids.
SELECT payout_id, affiliate_id, currency, method, method_version, fingerprint, status, amount, owed_amount, vat_amount,
       withholding_amount, fee_amount, invoice_number, reason, initiated_at, ended_at, bank_line_id, position, run_id
  FROM payouts
 WHERE program_id = %(program_id)s AND payout_id > %(after)s
   AND (%(status)s::text IS NULL OR status = %(status)s)
   AND (%(affiliate_id)s::text IS NULL OR affiliate_id = %(affiliate_id)s)
 ORDER BY payout_id LIMIT %(limit)s

-- name: select_affiliate_payouts
-- An affiliate's payouts initiated in a time, oldest first.
SELECT payout_id, affiliate_id, currency, method, method_version, fingerprint, status, amount, owed_amount, vat_amount,
       withholding_amount, fee_amount, invoice_number, reason, initiated_at, ended_at, bank_line_id, position, run_id
  FROM payouts
 WHERE program_id = %(program_id)s AND affiliate_id = %(affiliate_id)s AND initiated_at >= %(from)s
   AND initiated_at < %(until)s
 ORDER BY initiated_at, payout_id

-- name: select_run_totals
-- A run's payouts by status: how many, and their sums.
SELECT status, count(*), sum(amount)::bigint, sum(amount + vat_amount - withholding_amount)::bigint,
       sum(vat_amount)::bigint, sum(withholding_amount)::bigint, sum(fee_amount)::bigint
  FROM payouts WHERE program_id = %(program_id)s AND run_id = %(run_id)s GROUP BY status ORDER BY status

-- name: select_runs
-- Runs behind an id, in the order of ids.
SELECT run_id, period, currency, method, attempt, status, cut_position, ends_at, position FROM payout_runs
 WHERE program_id = %(program_id)s AND run_id > %(after)s AND (%(status)s::text IS NULL OR status = %(status)s)
 ORDER BY run_id LIMIT %(limit)s

-- name: select_run_bank
-- What the bank's lines say of a run's payouts, by outcome: how many lines, and their sum (below zero: money left).
SELECT b.outcome, count(*), sum(b.amount)::bigint
  FROM payouts p JOIN bank_lines b ON b.program_id = p.program_id AND b.payout_id = p.payout_id
 WHERE p.program_id = %(program_id)s AND p.run_id = %(run_id)s GROUP BY b.outcome ORDER BY b.outcome

-- name: select_missing_series
-- Currencies and methods by which affiliates are paid and of which a period has no run yet.
SELECT DISTINCT split_part(d.record_id, '/', 2), d.type FROM directory d
 WHERE d.program_id = %(program_id)s AND d.kind = 'payout_method' AND d.type <> ''
   AND NOT EXISTS (SELECT FROM payout_runs r
                    WHERE r.program_id = %(program_id)s AND r.period = %(period)s AND r.method = d.type
                      AND r.currency = split_part(d.record_id, '/', 2))
 ORDER BY 1, 2

-- name: select_run_moved
-- What the bank's lines say left for a run's payouts, and came back, whatever became of the lines.
SELECT coalesce(-sum(b.amount) FILTER (WHERE b.amount < 0), 0)::bigint,
       coalesce(sum(b.amount + b.charges) FILTER (WHERE b.amount > 0), 0)::bigint
  FROM payouts p JOIN bank_lines b ON b.program_id = p.program_id AND b.payout_id = p.payout_id
 WHERE p.program_id = %(program_id)s AND p.run_id = %(run_id)s AND b.outcome <> 'fee'

-- name: select_apart_from_bank
-- A run's payouts of which the bank's lines say another sum than the books: those that a person decided among them.
SELECT p.payout_id
  FROM payouts p
  LEFT JOIN bank_lines b ON b.program_id = %(program_id)s AND b.payout_id = p.payout_id AND b.outcome <> 'fee'
 WHERE p.program_id = %(program_id)s AND p.run_id = %(run_id)s AND p.status <> 'excluded'
 GROUP BY p.payout_id, p.status, p.amount, p.vat_amount, p.withholding_amount, p.fee_amount
HAVING coalesce(sum(b.amount + CASE WHEN b.amount > 0 THEN b.charges ELSE 0 END), 0) <> CASE
           WHEN p.status = 'settled' THEN -(p.amount + p.vat_amount - p.withholding_amount + p.fee_amount)
           WHEN p.status = 'returned' THEN -p.fee_amount
           ELSE 0 END
 ORDER BY p.payout_id LIMIT 100
