-- Lists about payouts that only people ask for. Amounts are minor units.

-- name: select_sent
-- An affiliate's payouts that were initiated before a position, newest first.
SELECT payout_id, affiliate_id, currency, method, method_version, fingerprint, status, amount, owed_amount, vat_amount,
       withholding_amount, fee_amount, invoice_number, reason, initiated_at, ended_at, bank_line_id, position, run_id,
       initiated_position
  FROM payouts
 WHERE program_id = %(program_id)s AND affiliate_id = %(affiliate_id)s AND initiated_position < %(before)s
 ORDER BY initiated_position DESC LIMIT %(limit)s

-- name: select_run_break_lines
-- The bank's lines about a run's payouts that became breaks.
SELECT b.line_id, b.payout_id
  FROM payouts p JOIN bank_lines b ON b.program_id = %(program_id)s AND b.payout_id = p.payout_id
 WHERE p.program_id = %(program_id)s AND p.run_id = %(run_id)s AND b.outcome = 'break'
 ORDER BY b.position LIMIT %(limit)s

-- name: select_open_breaks
-- Which of some breaks are open.
SELECT record_id FROM directory
 WHERE program_id = %(program_id)s AND kind = 'break' AND record_id = ANY(%(ids)s) AND status = 'open'
 ORDER BY record_id
