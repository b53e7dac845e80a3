-- The affiliates' trees (ledger/affiliate_trees.py): over the leaf hashes of the events that moved an affiliate's money.
-- Affiliates in the order of their ids' bytes, on every server.

-- name: select_recorded_before
-- The newest cut before one that has trees; 0 without any.
SELECT coalesce(max(position), 0) FROM affiliate_trees
 WHERE program_id = %(program_id)s AND position < %(position)s

-- name: select_trees
-- Each affiliate's newest tree up to a cut.
SELECT DISTINCT ON (affiliate_id COLLATE "C") affiliate_id, size, root, roots FROM affiliate_trees
 WHERE program_id = %(program_id)s AND position <= %(position)s
 ORDER BY affiliate_id COLLATE "C", position DESC

-- name: select_new_entries
-- Every line about an affiliate between two cuts, with the leaf hash of its event: an event of two lines comes twice.
SELECT j.affiliate_id, j.position, e.leaf_hash
  FROM journal j
  JOIN book_events e ON e.program_id = %(program_id)s AND e.position = j.position
 WHERE j.program_id = %(program_id)s AND j.position > %(previous)s AND j.position <= %(position)s
   AND j.affiliate_id <> ''
   AND j.generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
 ORDER BY j.affiliate_id COLLATE "C", j.position

-- name: insert_trees
-- Trees as of a cut. Another process that closes the same period writes the same ones.
INSERT INTO affiliate_trees (program_id, affiliate_id, position, size, root, roots)
SELECT %(program_id)s, v.affiliate_id, %(position)s, v.size, v.root, v.roots
  FROM unnest(%(affiliates)s::text[], %(sizes)s::bigint[], %(roots)s::bytea[], %(subtrees)s::bytea[])
       AS v (affiliate_id, size, root, roots)
    ON CONFLICT DO NOTHING

-- name: select_entry_rows
-- The events up to a cut that moved an affiliate's money, found through its accounts, as stored_line takes them, and
-- their leaf hashes.
SELECT e.position, e.originator_id, e.originator_version, e.topic, e.recorded_at, e.actor, e.key_id, e.request_id,
       e.cause, e.state, e.leaf_hash
  FROM (SELECT s.position FROM balances b
         CROSS JOIN LATERAL (
               (SELECT position FROM journal
                 WHERE program_id = %(program_id)s AND generation = b.generation AND debit = b.account
                   AND currency = b.currency AND position <= %(position)s)
               UNION ALL
               (SELECT position FROM journal
                 WHERE program_id = %(program_id)s AND generation = b.generation AND credit = b.account
                   AND currency = b.currency AND position <= %(position)s
                   AND (debit LIKE 'expense:%%' OR debit LIKE 'tax:%%'))) s
         WHERE b.program_id = %(program_id)s AND b.affiliate_id = %(affiliate_id)s
           AND b.generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
         GROUP BY s.position) own
  JOIN book_events e ON e.program_id = %(program_id)s AND e.position = own.position
 ORDER BY e.position

-- name: select_rows_at
-- Some events of the books, as stored_line takes them, and their leaf hashes.
SELECT position, originator_id, originator_version, topic, recorded_at, actor, key_id, request_id, cause, state,
       leaf_hash
  FROM book_events WHERE program_id = %(program_id)s AND position = ANY(%(positions)s)
 ORDER BY position
