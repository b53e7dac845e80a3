-- What is open between the program and one affiliate.

-- name: select_open_payouts
-- Payouts that are proposed, on their way, or of which nobody knows what became.
SELECT 'payout', payout_id || ' (' || status || ')' FROM payouts
 WHERE program_id = %(program_id)s AND affiliate_id = %(affiliate_id)s
   AND status IN ('proposed', 'initiated', 'unknown')
 ORDER BY payout_id LIMIT %(limit)s

-- name: select_open_records
-- What waits for somebody's decision.
SELECT kind, record_id || ' (' || status || ')' FROM directory
 WHERE program_id = %(program_id)s AND affiliate_id = %(affiliate_id)s AND affiliate_id <> ''
   AND ((kind IN ('adjustment', 'payout_method') AND status = 'proposed')
     OR (kind = 'dispute' AND status IN ('open', 'answered'))
     OR (kind IN ('exception', 'break') AND status = 'open'))
 ORDER BY kind, record_id LIMIT %(limit)s

-- name: select_keys_in_force
-- Access keys of the affiliate that still open something.
SELECT 'key', key_id || ' (in force)' FROM api_keys
 WHERE program_id = %(program_id)s AND affiliate_id = %(affiliate_id)s AND revoked_at IS NULL AND expires_at > %(now)s
 ORDER BY key_id LIMIT %(limit)s
