-- A log's tree, its checkpoints and its keys, as the database has them.

-- name: select_tile
-- A complete tile.
SELECT hashes FROM tiles
 WHERE program_id = %(program_id)s AND log = %(log)s AND level = %(level)s AND tile_index = %(tile_index)s

-- name: select_tile_roots
-- The roots of complete tiles side by side: hashes of the level above.
SELECT root FROM tiles
 WHERE program_id = %(program_id)s AND log = %(log)s AND level = %(level)s
   AND tile_index >= %(first)s AND tile_index < %(end)s
 ORDER BY tile_index

-- name: select_leaves_of_books
-- The leaf hashes of some of the books' events, side by side.
SELECT leaf_hash FROM book_events
 WHERE program_id = %(program_id)s AND position > %(after)s AND position <= %(until)s ORDER BY position

-- name: select_leaves_of_traffic
-- The leaf hashes of some clicks, side by side.
SELECT leaf_hash FROM traffic_events
 WHERE program_id = %(program_id)s AND position > %(after)s AND position <= %(until)s ORDER BY position

-- name: select_newest_checkpoint
-- The newest checkpoint.
SELECT size, root, note, sealed_at FROM checkpoints
 WHERE program_id = %(program_id)s AND log = %(log)s ORDER BY size DESC LIMIT 1

-- name: select_checkpoint
-- The checkpoint of a size.
SELECT size, root, note, sealed_at FROM checkpoints
 WHERE program_id = %(program_id)s AND log = %(log)s AND size = %(size)s

-- name: select_checkpoint_over
-- The first checkpoint that covers a position.
SELECT size, root, note, sealed_at FROM checkpoints
 WHERE program_id = %(program_id)s AND log = %(log)s AND size >= %(size)s ORDER BY size LIMIT 1

-- name: select_cosignatures
-- What witnesses signed under a checkpoint.
SELECT cosignatures FROM publications
 WHERE program_id = %(program_id)s AND log = %(log)s AND size = %(size)s AND cosignatures <> '' ORDER BY witness

-- name: select_sealing_keys
-- Every key that ever signed, by age, with the last time that one of them ceased to.
SELECT k.verifier_key, k.first_size, k.first_at,
       (SELECT max(r.last_size) FROM retired_keys r
         WHERE r.program_id = %(program_id)s AND r.log = %(log)s AND r.verifier_key = k.verifier_key)
  FROM sealing_keys k WHERE k.program_id = %(program_id)s AND k.log = %(log)s
 ORDER BY k.first_size, k.verifier_key
