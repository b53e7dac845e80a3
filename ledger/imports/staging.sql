-- What the importer asks the database to do. Every statement stays inside one program.
--
-- A file's rows are asked about before anybody could collect statistics of them, and the planner takes them for a
-- handful. So what is looked up by key is a subquery (with OFFSET 0 where it must not become a join): one probe of an
-- index a row, whatever is believed. As plain joins two of these took 20 s instead of 0.2.

-- name: take_turn
-- One import of a program at a time reads and matches: what one takes back of an order is not left for another. The
-- row stays locked until the transaction ends.
INSERT INTO import_turns (program_id, taken_at) VALUES (%(program_id)s, %(now)s)
    ON CONFLICT (program_id) DO UPDATE SET taken_at = EXCLUDED.taken_at

-- name: select_file
-- How far this very file has come, read in this way.
SELECT state, totals FROM import_files WHERE program_id = %(program_id)s AND import_id = %(import_id)s

-- name: select_unfinished
-- The imports that were interrupted after matching, oldest first: they are finished before another file is matched,
-- because what they take back of an order is not left for others.
SELECT import_id, file_name, offer_id, currency, enrol FROM import_files
 WHERE program_id = %(program_id)s AND state = 'matched' AND import_id <> %(import_id)s
 ORDER BY matched_at, import_id

-- name: insert_file
-- Everything is read and matched; what follows can be repeated from here.
INSERT INTO import_files (program_id, import_id, file_name, offer_id, currency, enrol, state, matched_at, totals)
VALUES (%(program_id)s, %(import_id)s, %(file_name)s, %(offer_id)s, %(currency)s, %(enrol)s, 'matched', %(now)s, NULL)

-- name: insert_invoices
-- Group the file's lines into invoices, and tell those that an earlier file had.
INSERT INTO import_invoices (program_id, import_id, invoice, standing, first_line, occurred_at, amount, digest)
SELECT %(program_id)s, %(import_id)s, found.invoice,
       coalesce((SELECT CASE WHEN known.digest = found.digest THEN 'again' ELSE 'changed' END
                   FROM import_invoices known
                  WHERE known.program_id = %(program_id)s AND known.invoice = found.invoice
                    AND known.standing = 'new'), 'new'),
       found.first_line, found.occurred_at, found.amount, found.digest
  FROM (SELECT invoice, min(line_no) AS first_line, (array_agg(occurred_at ORDER BY line_no))[1] AS occurred_at,
               least(sum(amount), 9223372036854775807)::bigint AS amount,
               sha256(convert_to(string_agg(concat_ws('|', kind, sku, coalesce(customer_id, ''), quantity,
                      trim_scale(price), extract(epoch FROM occurred_at), affiliate_id), E'\n' ORDER BY line_no),
                      'UTF8')) AS digest
          FROM import_lines
         WHERE program_id = %(program_id)s AND import_id = %(import_id)s
         GROUP BY invoice) found

-- name: select_too_large
-- An order that is worth more than the ledger takes.
SELECT invoice, first_line FROM import_invoices
 WHERE program_id = %(program_id)s AND import_id = %(import_id)s AND amount > %(most)s ORDER BY first_line LIMIT 1

-- name: select_unapproved_affiliates
-- Affiliates that this file's sales name and that may not earn yet: not enrolled (''), or applied.
SELECT affiliate_id, status
  FROM (SELECT named.affiliate_id,
               coalesce((SELECT d.status FROM directory d WHERE d.program_id = %(program_id)s AND d.kind = 'affiliate'
                            AND d.record_id = named.affiliate_id), '') AS status
          FROM (SELECT DISTINCT affiliate_id FROM import_lines
                 WHERE program_id = %(program_id)s AND import_id = %(import_id)s AND kind = 'sale'
                   AND affiliate_id <> '') named) found
 WHERE status IN ('', 'applied')
 ORDER BY affiliate_id

-- name: select_candidates
-- What matching walks through: the refund lines that are new, and what is left of the sale lines of the same
-- customers and articles, from whichever file. Sorted as ledger.imports.matching wants it.
WITH numbered AS (
    SELECT *, row_number() OVER (PARTITION BY invoice ORDER BY line_no) AS ordinal
      FROM import_lines
     WHERE program_id = %(program_id)s AND import_id = %(import_id)s
), refunds AS MATERIALIZED (
    SELECT n.customer_id, n.sku, n.occurred_at, n.invoice, n.line_no, n.ordinal, n.quantity, n.price
      FROM numbered n
     WHERE n.kind = 'refund' AND n.customer_id IS NOT NULL
       AND (SELECT i.standing FROM import_invoices i WHERE i.program_id = %(program_id)s
               AND i.import_id = %(import_id)s AND i.invoice = n.invoice) = 'new'
), sales AS (
    SELECT s.customer_id, s.sku, o.occurred_at, s.invoice, s.line_no, s.price,
           s.quantity - (SELECT coalesce(sum(m.quantity), 0) FROM import_matches m
                          WHERE m.program_id = %(program_id)s AND m.order_id = s.invoice
                            AND m.order_line_no = s.line_no)::bigint AS quantity
      FROM (SELECT DISTINCT customer_id, sku FROM refunds) wanted
     CROSS JOIN LATERAL (SELECT * FROM import_lines l
                          WHERE l.program_id = %(program_id)s AND l.customer_id = wanted.customer_id
                            AND l.sku = wanted.sku AND l.kind = 'sale' OFFSET 0) s
     CROSS JOIN LATERAL (SELECT i.occurred_at FROM import_invoices i
                          WHERE i.program_id = %(program_id)s AND i.import_id = s.import_id
                            AND i.invoice = s.invoice AND i.standing = 'new' OFFSET 0) o
)
SELECT customer_id, sku, refund, invoice, number, quantity, price
  FROM (SELECT customer_id, sku, occurred_at, true AS refund, invoice, line_no, ordinal AS number, quantity, price
          FROM refunds
        UNION ALL
        SELECT customer_id, sku, occurred_at, false, invoice, line_no, line_no, quantity, price FROM sales) candidates
 ORDER BY customer_id COLLATE "C", sku COLLATE "C", occurred_at, refund, invoice COLLATE "C", line_no

-- name: select_taken_back
-- What this file's new refunds take back of each order, in the order in which they came.
SELECT order_id, invoice, occurred_at, worth,
       (SELECT o.amount FROM import_invoices o
         WHERE o.program_id = %(program_id)s AND o.invoice = order_id AND o.standing = 'new')
  FROM (SELECT m.order_id, r.invoice, r.occurred_at, sum(m.amount)::bigint AS worth
          FROM import_invoices r
         CROSS JOIN LATERAL (SELECT order_id, amount FROM import_matches
                              WHERE program_id = %(program_id)s AND refund_invoice = r.invoice OFFSET 0) m
         WHERE r.program_id = %(program_id)s AND r.import_id = %(import_id)s AND r.standing = 'new'
         GROUP BY m.order_id, r.invoice, r.occurred_at) taken
 WHERE worth > 0
 ORDER BY order_id COLLATE "C", occurred_at, invoice COLLATE "C"

-- name: select_reversed
-- What the log has of some orders: their amount, and what was taken back of it.
SELECT order_id, sum(amount)::bigint, sum(reversed_amount)::bigint FROM conversions
 WHERE program_id = %(program_id)s AND originator_id = ANY(%(ids)s::uuid[])
 GROUP BY order_id

-- name: count_work
-- How many orders, reversals and lines that are neither there are to record, at most.
SELECT (SELECT count(*) FROM import_invoices
         WHERE program_id = %(program_id)s AND import_id = %(import_id)s)
     + (SELECT count(*) FROM import_lines
         WHERE program_id = %(program_id)s AND import_id = %(import_id)s AND kind = 'neither')

-- name: select_sale_lines
-- The lines of this file's orders, order by order, as the file has them.
SELECT i.invoice, i.occurred_at, l.sku, l.quantity, l.amount, l.customer_id, l.affiliate_id
  FROM import_invoices i
 CROSS JOIN LATERAL (SELECT * FROM import_lines
                      WHERE program_id = %(program_id)s AND import_id = %(import_id)s AND invoice = i.invoice
                        AND kind = 'sale' OFFSET 0) l
 WHERE i.program_id = %(program_id)s AND i.import_id = %(import_id)s AND i.standing <> 'changed'
 ORDER BY i.first_line, l.line_no

-- name: select_reversals
-- The reversals of this file's refunds.
SELECT i.invoice, v.order_id, v.occurred_at, v.amount
  FROM import_invoices i
 CROSS JOIN LATERAL (SELECT * FROM import_reversals
                      WHERE program_id = %(program_id)s AND refund_invoice = i.invoice OFFSET 0) v
 WHERE i.program_id = %(program_id)s AND i.import_id = %(import_id)s AND i.standing <> 'changed'
 ORDER BY v.occurred_at, i.invoice COLLATE "C", v.order_id COLLATE "C"

-- name: select_exceptions
-- The lines that are neither sale nor refund, and the refund lines of which something matched no order (unmatched,
-- pieces).
SELECT * FROM (
    SELECT n.line_no, n.invoice, n.ordinal, n.kind, n.fact, n.customer_id IS NOT NULL AS has_customer, n.quantity,
           n.quantity - (SELECT coalesce(sum(m.quantity), 0) FROM import_matches m
                          WHERE m.program_id = %(program_id)s AND m.refund_invoice = n.invoice
                            AND m.refund_ordinal = n.ordinal)::bigint AS unmatched
      FROM (SELECT *, row_number() OVER (PARTITION BY invoice ORDER BY line_no) AS ordinal
              FROM import_lines
             WHERE program_id = %(program_id)s AND import_id = %(import_id)s) n
     WHERE n.kind <> 'sale'
       AND (SELECT i.standing FROM import_invoices i WHERE i.program_id = %(program_id)s
               AND i.import_id = %(import_id)s AND i.invoice = n.invoice) <> 'changed'
    OFFSET 0) lines
 WHERE kind = 'neither' OR unmatched > 0
 ORDER BY line_no

-- name: select_changed
-- Invoices that an earlier file had with other lines, with the lines that this file has.
SELECT i.invoice, i.digest, i.first_line,
       (SELECT json_agg(json_build_object('sku', l.sku, 'kind', l.kind, 'quantity', l.quantity, 'price',
               l.price::text, 'occurred_at', l.occurred_at, 'customer_id', l.customer_id, 'affiliate_id',
               l.affiliate_id) ORDER BY l.line_no)::text
          FROM import_lines l
         WHERE l.program_id = %(program_id)s AND l.import_id = %(import_id)s AND l.invoice = i.invoice)
  FROM import_invoices i
 WHERE i.program_id = %(program_id)s AND i.import_id = %(import_id)s AND i.standing = 'changed'
 ORDER BY i.first_line

-- name: select_commission_taken_back
-- How much commission some reversals took back when they were recorded: what stands in their conversions before their
-- own events, one event a commission.
SELECT coalesce(sum((e.state::jsonb ->> 'amount')::bigint), 0)::bigint
  FROM unnest(%(ids)s::uuid[], %(reversal_ids)s::text[], %(positions)s::bigint[]) AS r (id, reversal_id, position)
 CROSS JOIN LATERAL (SELECT state FROM book_events
                      WHERE program_id = %(program_id)s AND originator_id = r.id AND topic = 'ConversionReversed'
                        AND position < r.position OFFSET 0) e
 WHERE e.state::jsonb ->> 'reversal_id' = r.reversal_id

-- name: update_file
-- Everything is recorded.
UPDATE import_files SET state = 'recorded', totals = %(totals)s
 WHERE program_id = %(program_id)s AND import_id = %(import_id)s

-- name: delete_lines
-- Keep the sale lines to which a later refund may refer; the log has the rest.
DELETE FROM import_lines l
 WHERE l.program_id = %(program_id)s AND l.import_id = %(import_id)s
   AND (l.kind <> 'sale' OR l.customer_id IS NULL OR l.invoice IN (
        SELECT i.invoice FROM import_invoices i
         WHERE i.program_id = %(program_id)s AND i.import_id = %(import_id)s AND i.standing <> 'new'))

-- name: delete_invoices
-- Keep the invoices that this file brought first.
DELETE FROM import_invoices
 WHERE program_id = %(program_id)s AND import_id = %(import_id)s AND standing <> 'new'
