-- Sealing a log: reading what is new, and writing down its tree and its checkpoint.

-- name: select_rows_of_books
-- Some of the books' events as their export lines are made of, with the leaf hash that was stored.
SELECT position, originator_id::text, originator_version, topic, recorded_at, actor, key_id, request_id, cause, state,
       leaf_hash
  FROM book_events
 WHERE program_id = %(program_id)s AND position > %(after)s AND position <= %(until)s ORDER BY position

-- name: select_rows_of_traffic
-- Some clicks as their export lines are made of, with the leaf hash that was stored.
SELECT position, originator_id::text, originator_version, topic, recorded_at, actor, key_id, request_id, cause, state,
       leaf_hash
  FROM traffic_events
 WHERE program_id = %(program_id)s AND position > %(after)s AND position <= %(until)s ORDER BY position

-- name: select_last_leaf_tile
-- The last complete tile of leaf hashes.
SELECT tile_index FROM tiles
 WHERE program_id = %(program_id)s AND log = %(log)s AND level = 0 ORDER BY tile_index DESC LIMIT 1

-- name: select_tiles
-- Some tiles of a level, to compare.
SELECT tile_index, hashes, root FROM tiles
 WHERE program_id = %(program_id)s AND log = %(log)s AND level = %(level)s
   AND tile_index >= %(first)s AND tile_index <= %(last)s
 ORDER BY tile_index

-- name: insert_checkpoint
-- A checkpoint, unless somebody signed one of that size.
INSERT INTO checkpoints (program_id, log, size, root, note, sealed_at)
VALUES (%(program_id)s, %(log)s, %(size)s, %(root)s, %(note)s, %(sealed_at)s) ON CONFLICT DO NOTHING

-- name: insert_sealing_key
-- A key that signs for the first time.
INSERT INTO sealing_keys (program_id, log, verifier_key, first_size, first_at)
VALUES (%(program_id)s, %(log)s, %(verifier_key)s, %(size)s, %(sealed_at)s) ON CONFLICT DO NOTHING

-- name: insert_retired_key
-- A key that signed the checkpoint before and no more.
INSERT INTO retired_keys (program_id, log, verifier_key, last_size, retired_at)
VALUES (%(program_id)s, %(log)s, %(verifier_key)s, %(size)s, %(sealed_at)s) ON CONFLICT DO NOTHING

-- name: select_unsealed
-- Of each log: the last position, the newest checkpoint's size, and since when an event waits behind it.
SELECT h.log, h.next_position - 1, c.size,
       CASE h.log WHEN 'books' THEN (SELECT e.recorded_at FROM book_events e
                                      WHERE e.program_id = %(program_id)s AND e.position = coalesce(c.size, 0) + 1)
                  ELSE (SELECT e.recorded_at FROM traffic_events e
                         WHERE e.program_id = %(program_id)s AND e.position = coalesce(c.size, 0) + 1) END
  FROM log_heads h
  LEFT JOIN LATERAL (SELECT size FROM checkpoints p WHERE p.program_id = %(program_id)s AND p.log = h.log
                      ORDER BY p.size DESC LIMIT 1) c ON true
 WHERE h.program_id = %(program_id)s
 ORDER BY h.log
