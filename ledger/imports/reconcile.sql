-- What a reconciliation asks the database: a merchant's export, staged as an import stages it, against the recorded
-- conversions. It all happens in one transaction that is undone at the end; every statement stays inside one program.
--
-- Where all orders meet all conversions the join is FULL, which PostgreSQL only ever hashes or merges: the staged rows
-- have no statistics, and a nested loop, chosen for what looks like a handful, would take hours.

-- name: select_span
-- The first and last instant of the file's lines.
SELECT min(occurred_at), max(occurred_at) FROM import_lines
 WHERE program_id = %(program_id)s AND import_id = %(import_id)s

-- name: select_candidates
-- What matching walks through: the refund lines of the file; the sale lines of the same customers and articles in the
-- file; and those of orders that only earlier imports had, less what refunds outside this file took of them.
WITH refunds AS MATERIALIZED (
    SELECT l.customer_id, l.sku, l.occurred_at, l.invoice, l.line_no, l.quantity, l.price,
           row_number() OVER (PARTITION BY l.invoice ORDER BY l.line_no) AS ordinal, l.kind
      FROM import_lines l
     WHERE l.program_id = %(program_id)s AND l.import_id = %(import_id)s
), wanted AS (
    SELECT DISTINCT customer_id, sku FROM refunds WHERE kind = 'refund' AND customer_id IS NOT NULL
), sales AS (
    SELECT s.customer_id, s.sku, o.occurred_at, s.invoice, s.line_no, s.price,
           s.quantity - CASE WHEN s.import_id = %(import_id)s THEN 0 ELSE (
               SELECT coalesce(sum(m.quantity), 0) FROM import_matches m
                WHERE m.program_id = %(program_id)s AND m.order_id = s.invoice AND m.order_line_no = s.line_no
                  AND NOT EXISTS (SELECT 1 FROM import_invoices f
                                   WHERE f.program_id = %(program_id)s AND f.import_id = %(import_id)s
                                     AND f.invoice = m.refund_invoice))::bigint END AS quantity
      FROM wanted
     CROSS JOIN LATERAL (SELECT * FROM import_lines l
                          WHERE l.program_id = %(program_id)s AND l.customer_id = wanted.customer_id
                            AND l.sku = wanted.sku AND l.kind = 'sale' OFFSET 0) s
     CROSS JOIN LATERAL (SELECT i.occurred_at FROM import_invoices i
                          WHERE i.program_id = %(program_id)s AND i.import_id = s.import_id AND i.invoice = s.invoice
                            AND (i.import_id = %(import_id)s OR i.standing = 'new' AND NOT EXISTS (
                                SELECT 1 FROM import_invoices f WHERE f.program_id = %(program_id)s
                                   AND f.import_id = %(import_id)s AND f.invoice = s.invoice)) OFFSET 0) o
)
SELECT customer_id, sku, refund, invoice, number, quantity, price
  FROM (SELECT customer_id, sku, occurred_at, true AS refund, invoice, line_no, ordinal AS number, quantity, price
          FROM refunds WHERE kind = 'refund' AND customer_id IS NOT NULL
        UNION ALL
        SELECT customer_id, sku, occurred_at, false, invoice, line_no, line_no, quantity, price FROM sales) candidates
 ORDER BY customer_id COLLATE "C", sku COLLATE "C", occurred_at, refund, invoice COLLATE "C", line_no

-- name: count_orders
-- How many orders the file has in the span, and how many conversions the books have in it. Orders with an id that
-- begins with ~ are ours: no merchant knows them.
SELECT (SELECT count(DISTINCT l.invoice) FROM import_lines l
         WHERE l.program_id = %(program_id)s AND l.import_id = %(import_id)s AND l.kind = 'sale'
           AND l.occurred_at >= %(since)s AND l.occurred_at < %(until)s),
       (SELECT count(*) FROM conversions c
         WHERE c.program_id = %(program_id)s AND c.occurred_at >= %(since)s AND c.occurred_at < %(until)s
           AND c.share_no = 1 AND left(c.order_id, 1) <> '~')

-- name: select_order_differences
-- Orders that one side has and the other has not, or with another amount or currency. known: kept as an exception,
-- which is where somebody looks after it.
WITH kept_sales AS (
    SELECT substr(d.record_id, length('conversion:') + 1) AS order_id FROM directory d
     WHERE d.program_id = %(program_id)s AND d.kind = 'exception' AND d.record_id LIKE 'conversion:%%'
), kept_others AS (
    SELECT e.state::jsonb -> 'fact' ->> 'order_id' AS order_id, array_agg(d.record_id) AS record_ids,
           array_agg((e.state::jsonb -> 'fact' ->> 'amount')::bigint) AS amounts
      FROM directory d
      JOIN book_events e ON e.program_id = %(program_id)s AND e.position = d.position
     WHERE d.program_id = %(program_id)s AND d.kind = 'exception' AND d.type = 'differs_from_original'
     GROUP BY 1
), sold AS (
    SELECT DISTINCT ON (l.invoice) l.invoice, l.affiliate_id FROM import_lines l
     WHERE l.program_id = %(program_id)s AND l.import_id = %(import_id)s AND l.kind = 'sale'
     ORDER BY l.invoice, l.line_no
), there AS (
    SELECT s.invoice AS order_id, i.occurred_at, i.amount, s.affiliate_id,
           'differs:' || s.invoice || ':' || left(encode(i.digest, 'hex'), 16) AS kept_as
      FROM sold s
      FULL JOIN (SELECT * FROM import_invoices
                  WHERE program_id = %(program_id)s AND import_id = %(import_id)s) i ON i.invoice = s.invoice
     WHERE s.invoice IS NOT NULL
), here AS (
    SELECT c.order_id, min(c.occurred_at) AS occurred_at, sum(c.amount)::bigint AS amount, min(c.currency) AS currency,
           min(c.affiliate_id) FILTER (WHERE c.share_no = 1) AS affiliate_id
      FROM conversions c
     WHERE c.program_id = %(program_id)s AND left(c.order_id, 1) <> '~'
     GROUP BY c.order_id
), compared AS (
    SELECT CASE WHEN h.order_id IS NULL THEN 'missing'
                WHEN t.order_id IS NULL THEN 'extra'
                WHEN h.currency <> %(currency)s THEN 'currency_differs'
                WHEN h.amount <> t.amount THEN 'amount_differs' END AS type,
           coalesce(t.order_id, h.order_id) AS order_id, coalesce(h.affiliate_id, t.affiliate_id) AS affiliate_id,
           h.amount AS here, t.amount AS there, coalesce(h.currency, %(currency)s) AS currency,
           coalesce(t.occurred_at, h.occurred_at) AS occurred_at, t.kept_as
      FROM there t
      FULL JOIN here h ON h.order_id = t.order_id
)
SELECT d.type, d.order_id, d.affiliate_id, d.here, d.there, d.currency, d.occurred_at,
       CASE d.type WHEN 'missing' THEN s.order_id IS NOT NULL
                   WHEN 'extra' THEN false
                   ELSE coalesce(d.kept_as = ANY(o.record_ids) OR d.there = ANY(o.amounts), false) END AS known
  FROM (SELECT * FROM compared
         WHERE type IS NOT NULL AND occurred_at >= %(since)s AND occurred_at < %(until)s) d
  FULL JOIN kept_sales s ON s.order_id = d.order_id
  FULL JOIN kept_others o ON o.order_id = d.order_id
 WHERE d.order_id IS NOT NULL
 ORDER BY d.occurred_at, d.order_id COLLATE "C"

-- name: select_refund_differences
-- Orders of which the merchant gave back more in the span than the books took back, or less. in_file: the file has the
-- order itself, not only the refund. known: kept as an exception.
WITH kept AS (
    SELECT e.state::jsonb -> 'fact' ->> 'order_id' AS order_id, d.record_id, d.type,
           (e.state::jsonb -> 'fact' ->> 'sale_amount')::bigint AS amount
      FROM directory d
      JOIN book_events e ON e.program_id = %(program_id)s AND e.position = d.position
     WHERE d.program_id = %(program_id)s AND d.kind = 'exception'
       AND d.type IN ('differs_from_original', 'reversal_above_rest', 'currency_mismatch')
), unapplied AS (
    SELECT order_id, sum(amount)::bigint AS amount FROM kept WHERE record_id LIKE 'reversal:%%' GROUP BY order_id
), parts AS MATERIALIZED (
    SELECT m.order_id, r.invoice, r.occurred_at, m.amount,
           'differs:' || r.invoice || ':' || left(encode(r.digest, 'hex'), 16) AS kept_as
      FROM import_invoices r
     CROSS JOIN LATERAL (SELECT order_id, amount FROM import_matches
                          WHERE program_id = %(program_id)s AND refund_invoice = %(prefix)s || r.invoice OFFSET 0) m
     WHERE r.program_id = %(program_id)s AND r.import_id = %(import_id)s
       AND r.occurred_at >= %(since)s AND r.occurred_at < %(until)s
), there AS MATERIALIZED (
    SELECT p.order_id, sum(p.amount)::bigint AS worth, max(p.occurred_at) AS occurred_at,
           bool_or(EXISTS (SELECT 1 FROM kept k WHERE k.record_id = p.kept_as)) AS known,
           (SELECT i.amount FROM import_invoices i WHERE i.program_id = %(program_id)s
               AND i.import_id = %(import_id)s AND i.invoice = p.order_id) AS sold
      FROM parts p
     GROUP BY p.order_id
    HAVING sum(p.amount) > 0
), both_sides AS MATERIALIZED (
    SELECT c.order_id, c.originator_id, c.affiliate_id, c.currency, c.reversed_amount, t.occurred_at, t.known,
           t.sold IS NOT NULL OR (t.order_id IS NULL AND EXISTS (
               SELECT 1 FROM import_invoices i WHERE i.program_id = %(program_id)s AND i.import_id = %(import_id)s
                  AND i.invoice = c.order_id)) AS in_file,
           coalesce(t.worth, 0) AS worth, coalesce(t.sold, c.amount) AS sold
      FROM there t
      FULL JOIN (SELECT order_id, originator_id, min(currency) AS currency, sum(amount)::bigint AS amount,
                        sum(reversed_amount)::bigint AS reversed_amount,
                        min(affiliate_id) FILTER (WHERE share_no = 1) AS affiliate_id
                   FROM conversions
                  WHERE program_id = %(program_id)s AND left(order_id, 1) <> '~'
                  GROUP BY order_id, originator_id) c ON c.order_id = t.order_id
     WHERE c.order_id IS NOT NULL AND c.currency = %(currency)s
       AND (t.order_id IS NOT NULL OR c.reversed_amount > 0)
)
SELECT CASE WHEN d.there > d.here THEN 'refunded_there' ELSE 'refunded_here' END, d.order_id, d.affiliate_id, d.here,
       d.there, d.currency, CASE WHEN d.there > d.here THEN d.there_at ELSE d.here_at END AS occurred_at,
       coalesce(d.known OR d.there - d.here = (SELECT u.amount FROM unapplied u WHERE u.order_id = d.order_id), false),
       d.in_file
  FROM (SELECT b.order_id, b.affiliate_id, b.currency, b.known, b.in_file, b.occurred_at AS there_at,
               back.occurred_at AS here_at, back.here, least(b.worth, greatest(b.sold - back.before, 0)) AS there
          FROM both_sides b
         CROSS JOIN LATERAL (
               -- what was given back before the span is not there to be given back in it
               SELECT coalesce(sum(v.amount) FILTER (WHERE v.at >= %(since)s), 0)::bigint AS here,
                      coalesce(sum(v.amount) FILTER (WHERE v.at < %(since)s), 0)::bigint AS before,
                      max(v.at) AS occurred_at
                 FROM (SELECT DISTINCT e.state::jsonb ->> 'reversal_id',  -- has an event for each commission
                              (e.state::jsonb ->> 'sale_amount')::bigint AS amount,
                              (e.state::jsonb ->> 'effective_at')::timestamptz AS at
                         FROM book_events e
                        WHERE e.program_id = %(program_id)s AND e.originator_id = b.originator_id
                          AND e.topic = 'ConversionReversed' OFFSET 0) v
                WHERE v.at < %(until)s OFFSET 0) back) d
 WHERE d.there <> d.here
 ORDER BY occurred_at, order_id COLLATE "C"

-- name: select_unmatched_refunds
-- Refund lines of which something matches no order, with what that is worth. known: kept as an exception.
SELECT 'line:' || n.invoice || ':' || n.ordinal, n.affiliate_id,
       round(n.unmatched * n.price * 10 ^ %(places)s)::bigint, n.occurred_at,
       EXISTS (SELECT 1 FROM directory d WHERE d.program_id = %(program_id)s AND d.kind = 'exception'
                  AND d.record_id IN ('line:' || n.invoice || ':' || n.ordinal,
                                      'differs:' || n.invoice || ':' || left(encode(n.digest, 'hex'), 16)))
  FROM (SELECT l.invoice, l.ordinal, l.affiliate_id, l.price, i.occurred_at, i.digest, l.line_no,
               l.quantity - (SELECT coalesce(sum(m.quantity), 0) FROM import_matches m
                              WHERE m.program_id = %(program_id)s AND m.refund_invoice = %(prefix)s || l.invoice
                                AND m.refund_ordinal = l.ordinal)::bigint AS unmatched
          FROM (SELECT *, row_number() OVER (PARTITION BY invoice ORDER BY line_no) AS ordinal
                  FROM import_lines
                 WHERE program_id = %(program_id)s AND import_id = %(import_id)s) l
         CROSS JOIN LATERAL (SELECT occurred_at, digest FROM import_invoices
                              WHERE program_id = %(program_id)s AND import_id = %(import_id)s
                                AND invoice = l.invoice OFFSET 0) i
         WHERE l.kind = 'refund') n
 WHERE n.unmatched > 0 AND n.occurred_at >= %(since)s AND n.occurred_at < %(until)s
 ORDER BY n.line_no

-- name: select_open_breaks
-- Open breaks about orders that an earlier reconciliation found in a span of days.
SELECT d.record_id FROM directory d
  JOIN book_events e ON e.program_id = %(program_id)s AND e.originator_id = d.originator_id
                    AND e.originator_version = 1
 WHERE d.program_id = %(program_id)s AND d.kind = 'break' AND d.status = 'open' AND d.record_id LIKE 'orders:%%'
   AND (e.state::jsonb ->> 'occurred_on')::date BETWEEN %(first_day)s AND %(last_day)s
 ORDER BY d.record_id
