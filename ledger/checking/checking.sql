-- The check's questions. All of them are answered from one state of the database.

-- name: select_books
-- The next rows of the books, whole.
SELECT position, originator_id, originator_version, topic, recorded_at, actor, key_id, request_id, cause, state, leaf_hash
  FROM public.book_events WHERE program_id = %(program_id)s AND position > %(after)s ORDER BY position LIMIT %(limit)s

-- name: select_traffic
-- The next rows of the traffic log, whole.
SELECT position, originator_id, originator_version, topic, recorded_at, actor, key_id, request_id, cause, state, leaf_hash
  FROM public.traffic_events WHERE program_id = %(program_id)s AND position > %(after)s ORDER BY position LIMIT %(limit)s

-- name: select_head
-- A log's head.
SELECT next_position, last_recorded_at, master_position, generation FROM public.log_heads
 WHERE program_id = %(program_id)s AND log = %(log)s

-- name: select_program
-- The program's own row.
SELECT program, currency, opened_at FROM public.programs WHERE program_id = %(program_id)s

-- name: select_followers_ahead
-- Followers that claim to have read more of the books than there is.
SELECT follower, position FROM public.followers
 WHERE program_id = %(program_id)s AND position > %(last)s ORDER BY follower

-- name: select_broken_streams_of_books
-- Every event whose version or place does not follow the one before it in its stream.
SELECT originator_id, position, originator_version, before + 1
  FROM (SELECT originator_id, position, originator_version,
               coalesce(lag(originator_version) OVER stream, 0) AS before,
               coalesce(lag(position) OVER stream, 0) AS behind
          FROM public.book_events WHERE program_id = %(program_id)s
        WINDOW stream AS (PARTITION BY originator_id ORDER BY originator_version)) each
 WHERE originator_version <> before + 1 OR position <= behind
 ORDER BY position

-- name: select_broken_streams_of_traffic
-- The same of the traffic log.
SELECT originator_id, position, originator_version, before + 1
  FROM (SELECT originator_id, position, originator_version,
               coalesce(lag(originator_version) OVER stream, 0) AS before,
               coalesce(lag(position) OVER stream, 0) AS behind
          FROM public.traffic_events WHERE program_id = %(program_id)s
        WINDOW stream AS (PARTITION BY originator_id ORDER BY originator_version)) each
 WHERE originator_version <> before + 1 OR position <= behind
 ORDER BY position

-- name: select_checkpoints
-- A log's checkpoints behind a size, smallest first.
SELECT size, root, note FROM public.checkpoints
 WHERE program_id = %(program_id)s AND log = %(log)s AND size > %(after)s ORDER BY size LIMIT %(limit)s

-- name: select_tiles
-- Some stored tiles of a level.
SELECT tile_index, hashes, root FROM public.tiles
 WHERE program_id = %(program_id)s AND log = %(log)s AND level = %(level)s AND tile_index >= %(first)s
   AND tile_index <= %(last)s ORDER BY tile_index

-- name: select_tiles_beyond
-- Stored tiles of a level from one on.
SELECT tile_index, hashes, root FROM public.tiles
 WHERE program_id = %(program_id)s AND log = %(log)s AND level = %(level)s AND tile_index >= %(first)s
 ORDER BY tile_index

-- name: select_balances
-- Every account of the live books.
SELECT account, currency, affiliate_id, amount, position FROM public.balances
 WHERE program_id = %(program_id)s AND generation = %(generation)s ORDER BY account, currency

-- name: select_cuts
-- Every cut as the log has it, in the order in which they were made.
SELECT period, version FROM periods WHERE program_id = %(program_id)s ORDER BY position

-- name: select_issued
-- What was issued at a cut.
SELECT affiliate_id, sections::text, hash, position FROM statements
 WHERE program_id = %(program_id)s AND period = %(period)s AND version = %(version)s ORDER BY affiliate_id
