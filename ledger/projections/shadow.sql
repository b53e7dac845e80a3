-- The shadows' questions. Where one is about any of the tables, {table} and its columns are filled in: s is the row that
-- the replay made, l the live one.

-- name: select_streams_before
-- What stood in some streams before a position.
SELECT e.* FROM unnest(%(ids)s::uuid[]) AS wanted (id) CROSS JOIN LATERAL (
       SELECT position, originator_id, originator_version, topic, recorded_at, actor, key_id, request_id, cause, state
         FROM public.book_events
        WHERE program_id = %(program_id)s AND originator_id = wanted.id AND position < %(before)s
        ORDER BY originator_version LIMIT 2000000000) e

-- name: insert_key
-- An access key, without its secret.
INSERT INTO pg_temp.api_keys (program_id, key_id, role, holder, holder_kind, affiliate_id, issued_by, issued_at, expires_at)
VALUES (%(program_id)s, %(key_id)s, %(role)s, %(holder)s, %(holder_kind)s, %(affiliate_id)s, %(issued_by)s,
        %(issued_at)s, %(expires_at)s)

-- name: revoke_key
-- The first revocation counts.
UPDATE pg_temp.api_keys SET revoked_at = %(revoked_at)s
 WHERE program_id = %(program_id)s AND key_id = %(key_id)s AND revoked_at IS NULL

-- name: select_cuts
-- Every cut, in the order in which they were made.
SELECT period, version FROM pg_temp.periods WHERE program_id = %(program_id)s ORDER BY position

-- name: forget_lines_to_come
-- Of a period that is being closed: its carried lines, as long as there are no live ones at all.
DELETE FROM pg_temp.carried_lines s
 USING pg_temp.periods p
 WHERE s.program_id = %(program_id)s AND p.program_id = %(program_id)s AND p.period = s.period
   AND p.version = s.version AND p.status = 'closing'
   AND NOT EXISTS (SELECT FROM public.carried_lines l
                    WHERE l.program_id = %(program_id)s AND l.period = s.period AND l.version = s.version)

-- name: select_columns
-- A table's columns, in order.
SELECT attname FROM pg_attribute WHERE attrelid = %(table)s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum

-- name: count_differences
-- How many rows the two do not have in common.
SELECT count(*)
  FROM (SELECT * FROM pg_temp.{table} WHERE program_id = %(program_id)s) s
  FULL JOIN (SELECT * FROM public.{table} WHERE program_id = %(program_id)s) l ON {on}
 WHERE ({replayed}) IS DISTINCT FROM ({live})

-- name: select_differences
-- The first of them, in the order of their keys.
SELECT to_jsonb(s), to_jsonb(l)
  FROM (SELECT * FROM pg_temp.{table} WHERE program_id = %(program_id)s) s
  FULL JOIN (SELECT * FROM public.{table} WHERE program_id = %(program_id)s) l ON {on}
 WHERE ({replayed}) IS DISTINCT FROM ({live})
 ORDER BY {either}
 LIMIT %(limit)s

-- name: mark_differences
-- The keys of the rows that differ, for what is done about them under the lock.
CREATE TEMPORARY TABLE {marked} ON COMMIT DROP AS
SELECT {either_named}
  FROM (SELECT * FROM pg_temp.{table} WHERE program_id = %(program_id)s) s
  FULL JOIN (SELECT * FROM public.{table} WHERE program_id = %(program_id)s) l ON {on}
 WHERE ({replayed}) IS DISTINCT FROM ({live})

-- name: unmark_equal
-- Those that others wrote meanwhile, and rightly.
DELETE FROM pg_temp.{marked} m
 WHERE EXISTS (SELECT FROM pg_temp.{table} s JOIN public.{table} l ON {on}
                WHERE s.program_id = %(program_id)s AND ({of_s}) = ({of_m})
                  AND ({replayed}) IS NOT DISTINCT FROM ({live}))

-- name: count_marked
-- How many are wrong.
SELECT count(*) FROM pg_temp.{marked}

-- name: select_marked
-- The first of them, in the order of their keys.
SELECT to_jsonb(s), to_jsonb(l)
  FROM pg_temp.{marked} m
  LEFT JOIN pg_temp.{table} s ON s.program_id = %(program_id)s AND ({of_s}) = ({of_m})
  LEFT JOIN public.{table} l ON l.program_id = %(program_id)s AND ({of_l}) = ({of_m})
 ORDER BY {of_m}
 LIMIT %(limit)s

-- name: keep_beside
-- The wrong rows, for what stands in them and in no event.
CREATE TEMPORARY TABLE {kept} ON COMMIT DROP AS
SELECT l.* FROM public.{table} l JOIN pg_temp.{marked} m ON ({of_l}) = ({of_m})
 WHERE l.program_id = %(program_id)s

-- name: delete_wrong
-- They go.
DELETE FROM public.{table} l USING pg_temp.{marked} m
 WHERE l.program_id = %(program_id)s AND ({of_l}) = ({of_m})

-- name: insert_right
-- What the log says comes in their place, where nothing but the log is needed to say it.
INSERT INTO public.{table} ({every})
SELECT {right}
  FROM pg_temp.{marked} m
  JOIN pg_temp.{table} s ON s.program_id = %(program_id)s AND ({of_s}) = ({of_m})
  LEFT JOIN pg_temp.{kept} k ON k.program_id = %(program_id)s AND ({of_k}) = ({of_m})
 WHERE {known}

-- name: count_missing
-- How many rows the log asks for and nobody can make.
SELECT count(*) FROM pg_temp.{marked} m
 WHERE EXISTS (SELECT FROM pg_temp.{table} s WHERE s.program_id = %(program_id)s AND ({of_s}) = ({of_m}))
