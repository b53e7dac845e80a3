-- What stands beside a statement's hashed content when it is shown, and a closed period's figures.

-- name: select_tax_lines
-- An affiliate's lines that moved tax, above zero what was added to its money: VAT on a payout; below zero what was
-- withheld from one. Found through the two accounts that such lines touch.
SELECT t.position, t.effective_at, b.currency, t.amount
  FROM balances b
 CROSS JOIN LATERAL (
       SELECT position, effective_at, amount FROM journal
        WHERE program_id = %(program_id)s AND generation = b.generation AND credit = b.account
          AND currency = b.currency AND debit LIKE 'tax:%%' AND position <= %(position)s
        UNION ALL
       SELECT position, effective_at, -amount FROM journal
        WHERE program_id = %(program_id)s AND generation = b.generation AND debit = b.account
          AND currency = b.currency AND credit LIKE 'tax:%%' AND position <= %(position)s) t
 WHERE b.program_id = %(program_id)s AND b.affiliate_id = %(affiliate_id)s
   AND b.account IN ('liability:' || %(affiliate_id)s || ':in_transit', 'asset:bank:' || %(affiliate_id)s)
   AND b.generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')

-- name: select_late_count
-- How many lines of a period's statements, as they stood at a version, are of what happened before it began.
SELECT coalesce(sum((s ->> 'late_count')::bigint), 0)::bigint
  FROM (SELECT DISTINCT ON (affiliate_id) sections FROM statements
         WHERE program_id = %(program_id)s AND period = %(period)s AND version <= %(version)s
         ORDER BY affiliate_id, version DESC) newest
 CROSS JOIN LATERAL jsonb_array_elements(newest.sections) s

-- name: select_newest_versions
-- Who has a statement of a period, and its newest version, behind an id, in the order of ids.
SELECT affiliate_id, max(version) FROM statements
 WHERE program_id = %(program_id)s AND period = %(period)s AND affiliate_id > %(after)s
 GROUP BY affiliate_id ORDER BY affiliate_id LIMIT %(limit)s
