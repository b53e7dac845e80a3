-- What the importer asks the database to do. Every statement stays inside one program.

-- name: select_file
-- How far this very file has come, read in this way.
SELECT state, totals FROM import_files WHERE program_id = %(program_id)s AND import_id = %(import_id)s

-- name: select_unfinished
-- Imports that were interrupted after matching: they come first, because what they take back counts.
SELECT import_id, file_name, offer_id, currency, enrol FROM import_files
 WHERE program_id = %(program_id)s AND state = 'matched' AND import_id <> %(import_id)s
 ORDER BY matched_at, import_id

-- name: insert_file
-- Everything is read and matched; what follows can be repeated from here.
INSERT INTO import_files (program_id, import_id, file_name, offer_id, currency, enrol, state, matched_at, totals)
VALUES (%(program_id)s, %(import_id)s, %(file_name)s, %(offer_id)s, %(currency)s, %(enrol)s, 'matched', %(now)s, NULL)

-- name: select_invoices
-- The file's invoices: their first line's date, what their sale lines come to, and a digest of their lines.
SELECT invoice, min(occurred_at) FILTER (WHERE ordinal = 1), sum(amount)::bigint,
       sha256(convert_to(string_agg(concat_ws('|', ordinal, kind, sku, coalesce(customer_id, ''), quantity,
              trim_scale(price), extract(epoch FROM occurred_at), affiliate_id), E'\n' ORDER BY ordinal), 'UTF8'))
  FROM import_lines
 WHERE program_id = %(program_id)s AND import_id = %(import_id)s
 GROUP BY invoice

-- name: insert_invoices
-- Invoices that no earlier file brought are this file's.
INSERT INTO import_invoices (program_id, invoice, import_id, digest, occurred_at, amount)
SELECT %(program_id)s, invoice, %(import_id)s, digest, occurred_at, amount FROM staged_invoices
    ON CONFLICT (program_id, invoice) DO NOTHING

-- name: select_too_large
-- An order that is worth more than the ledger takes.
SELECT invoice FROM import_invoices
 WHERE program_id = %(program_id)s AND import_id = %(import_id)s AND amount > %(most)s ORDER BY invoice LIMIT 1

-- name: select_unknown_affiliates
-- Affiliates that this file's sales name and that are not enrolled, or not approved yet.
SELECT named.affiliate_id, coalesce(d.status, 'unknown')
  FROM (SELECT DISTINCT affiliate_id FROM import_lines
         WHERE program_id = %(program_id)s AND import_id = %(import_id)s AND kind = 'sale' AND affiliate_id <> '') named
  LEFT JOIN directory d ON d.program_id = %(program_id)s AND d.kind = 'affiliate' AND d.record_id = named.affiliate_id
 WHERE d.status IS NULL OR d.status = 'applied'
 ORDER BY 1

-- name: select_candidates
-- What matching walks through: the refund lines that are new, and what is left of the sale lines of the same
-- customers and articles, from whichever file. Sorted as ledger.imports.matching wants it.
WITH refunds AS (
    SELECT l.customer_id, l.sku, l.occurred_at, l.invoice, l.line_no, l.ordinal, l.quantity, l.price
      FROM import_lines l
      JOIN import_invoices i ON i.program_id = %(program_id)s AND i.invoice = l.invoice AND i.import_id = l.import_id
     WHERE l.program_id = %(program_id)s AND l.import_id = %(import_id)s AND l.kind = 'refund'
       AND l.customer_id IS NOT NULL
)
SELECT customer_id, sku, refund, invoice, ordinal, quantity, price
  FROM (SELECT customer_id, sku, occurred_at, true AS refund, invoice, line_no, ordinal, quantity, price FROM refunds
        UNION ALL
        SELECT s.customer_id, s.sku, i.occurred_at, false, s.invoice, s.line_no, s.ordinal,
               s.quantity - (SELECT coalesce(sum(m.quantity), 0) FROM import_matches m
                              WHERE m.program_id = %(program_id)s AND m.order_id = s.invoice
                                AND m.order_ordinal = s.ordinal)::bigint, s.price
          FROM (SELECT DISTINCT customer_id, sku FROM refunds) wanted
          JOIN import_lines s ON s.program_id = %(program_id)s AND s.customer_id = wanted.customer_id
               AND s.sku = wanted.sku AND s.kind = 'sale'
          JOIN import_invoices i ON i.program_id = %(program_id)s AND i.invoice = s.invoice
               AND i.import_id = s.import_id) candidates
 ORDER BY customer_id COLLATE "C", sku COLLATE "C", occurred_at, refund, invoice COLLATE "C", line_no

-- name: select_taken_back
-- What this file's refunds take back of each order, in the order in which they came.
SELECT m.order_id, m.refund_invoice, min(l.occurred_at), sum(m.amount)::bigint, o.amount
  FROM import_lines l
  JOIN import_invoices r ON r.program_id = %(program_id)s AND r.invoice = l.invoice AND r.import_id = l.import_id
  JOIN import_matches m ON m.program_id = %(program_id)s AND m.refund_invoice = l.invoice
       AND m.refund_ordinal = l.ordinal
  JOIN import_invoices o ON o.program_id = %(program_id)s AND o.invoice = m.order_id
 WHERE l.program_id = %(program_id)s AND l.import_id = %(import_id)s AND l.kind = 'refund'
 GROUP BY m.order_id, m.refund_invoice, o.amount
HAVING sum(m.amount) > 0
 ORDER BY m.order_id COLLATE "C", min(l.occurred_at), m.refund_invoice COLLATE "C"

-- name: select_reversed
-- What the log has of some orders: their amount, and what was taken back of it.
SELECT order_id, amount, reversed_amount FROM conversions
 WHERE program_id = %(program_id)s AND originator_id = ANY(%(ids)s::uuid[])

-- name: select_changed_invoices
-- Invoices that an earlier file had with other lines: they are kept as exceptions, one each.
SELECT s.invoice, encode(s.digest, 'hex'), count(*), min(l.line_no)
  FROM staged_invoices s
 WHERE false

-- name: select_sale_lines
-- The lines of this file's orders, order by order, as the file has them.
SELECT l.invoice, l.sku, l.quantity, l.amount, l.customer_id, l.affiliate_id, first.occurred_at
  FROM (SELECT invoice, min(line_no) AS line_no, min(occurred_at) FILTER (WHERE ordinal = 1) AS occurred_at
          FROM import_lines WHERE program_id = %(program_id)s AND import_id = %(import_id)s GROUP BY invoice) first
  JOIN import_lines l ON l.program_id = %(program_id)s AND l.import_id = %(import_id)s AND l.invoice = first.invoice
 WHERE l.kind = 'sale'
 ORDER BY first.line_no, l.line_no
