-- The register of self-billing invoices and credit notes. Amounts are minor units.

-- name: select_numbered
-- Which payouts got the numbers that were taken at some positions. One command takes numbers and gives them to its
-- payouts, so they stand close behind.
SELECT e.invoice_number, e.payout_id
  FROM unnest(%(positions)s::bigint[], %(counts)s::bigint[]) AS taken (position, count)
 CROSS JOIN LATERAL (
       SELECT state::jsonb ->> 'invoice_number' AS invoice_number, state::jsonb ->> 'payout_id' AS payout_id
         FROM book_events
        WHERE program_id = %(program_id)s AND position > taken.position
          AND position <= taken.position + 10 * taken.count AND topic IN ('PayoutInitiated', 'PayoutSettled')) e
 WHERE e.invoice_number <> ''

-- name: select_payouts
-- What some payouts are, for their invoices.
SELECT payout_id, affiliate_id, currency, amount, vat_amount, withholding_amount FROM payouts
 WHERE program_id = %(program_id)s AND payout_id = ANY(%(ids)s)

-- name: select_credit_notes
-- The credit notes of some years that cancel some payouts' invoices, in the order of the log.
SELECT e.payout_id, e.year, e.number, e.cancels
  FROM unnest(%(streams)s::uuid[]) AS wanted (id)
 CROSS JOIN LATERAL (
       SELECT position, state::jsonb ->> 'payout_id' AS payout_id, (state::jsonb ->> 'year')::int AS year,
              (state::jsonb ->> 'number')::int AS number, state::jsonb ->> 'cancels' AS cancels
         FROM book_events
        WHERE program_id = %(program_id)s AND originator_id = wanted.id AND topic = 'CreditNoteIssued'
        ORDER BY originator_version LIMIT 2000000000) e
 WHERE e.payout_id = ANY(%(ids)s)
 ORDER BY e.position
