-- What an export adds to the two logs: the journal's control totals and the statements, as of a position.

-- name: select_turnover
-- The journal up to a position by currency: lines, and the sum of their amounts.
SELECT currency, count(*), sum(amount)::text FROM journal
 WHERE program_id = %(program_id)s AND position <= %(position)s
   AND generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
 GROUP BY currency ORDER BY currency COLLATE "C"

-- name: select_statements_in_order
-- Every version of a statement that was issued up to a position, in the order of the log.
SELECT affiliate_id, period, version, line_count, hash, sections::text FROM statements
 WHERE program_id = %(program_id)s AND position <= %(position)s ORDER BY position

-- name: select_earlier_checkpoints
-- Checkpoints of a log before a size, spread evenly over it: of each of `most` equal stretches the last one.
SELECT DISTINCT e.size, e.note
  FROM generate_series(1, %(most)s) AS n
 CROSS JOIN LATERAL (
       SELECT size, note FROM checkpoints
        WHERE program_id = %(program_id)s AND log = %(log)s AND size < %(size)s
          AND size <= (%(size)s::numeric * n / %(most)s)::bigint
        ORDER BY size DESC LIMIT 1) e
 ORDER BY e.size
