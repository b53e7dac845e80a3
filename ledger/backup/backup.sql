-- What backups and restores ask of a database, as its owner.

-- name: select_programs
-- Every program.
SELECT program_id, program FROM programs ORDER BY program

-- name: select_leaves_of_books
-- The leaf hashes of a program's books, in order.
SELECT position, leaf_hash FROM book_events WHERE program_id = %(program_id)s ORDER BY position

-- name: select_leaves_of_traffic
-- The leaf hashes of a program's clicks, in order.
SELECT position, leaf_hash FROM traffic_events WHERE program_id = %(program_id)s ORDER BY position

-- name: select_rows_of_books
-- A program's books as their export lines are made of, with the leaf hash that was stored.
SELECT position, originator_id, originator_version, topic, recorded_at, actor, key_id, request_id, cause, state,
       leaf_hash
  FROM book_events WHERE program_id = %(program_id)s ORDER BY position

-- name: select_rows_of_traffic
-- A program's clicks as their export lines are made of, with the leaf hash that was stored.
SELECT position, originator_id, originator_version, topic, recorded_at, actor, key_id, request_id, cause, state,
       leaf_hash
  FROM traffic_events WHERE program_id = %(program_id)s ORDER BY position

-- name: select_heads
-- Where a program's two logs will go on.
SELECT log, next_position FROM log_heads WHERE program_id = %(program_id)s

-- name: count_rows
-- What is derived from a program's log, and its access keys: rows of each.
SELECT (SELECT count(*) FROM journal j WHERE j.program_id = h.program_id AND j.generation = h.generation),
       (SELECT count(*) FROM balances b WHERE b.program_id = h.program_id AND b.generation = h.generation),
       (SELECT count(*) FROM conversions c WHERE c.program_id = h.program_id),
       (SELECT count(*) FROM directory d WHERE d.program_id = h.program_id),
       (SELECT count(*) FROM touches t WHERE t.program_id = h.program_id),
       (SELECT count(*) FROM api_keys k WHERE k.program_id = h.program_id)
  FROM log_heads h WHERE h.program_id = %(program_id)s AND h.log = 'books'

-- name: count_subject_keys
-- How many keys of personal data there are, of all programs; an erased subject's row has none.
SELECT count(*) FROM vault.subject_keys WHERE wrapped_key <> ''

-- name: select_a_subject_key
-- Any one of a program's keys of personal data, to see whether the master key opens it.
SELECT subject, wrapped_key FROM vault.subject_keys WHERE program_id = %(program_id)s AND wrapped_key <> '' LIMIT 1

-- name: select_last_migration
-- The newest migration that was applied.
SELECT version, name FROM schema_migrations ORDER BY version DESC LIMIT 1

-- name: end_orphans
-- End the sessions of a tool whose restore was killed, and wait for them: what they still do must not come later.
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
 WHERE datname = current_database() AND usename = current_user AND application_name = %(name)s

-- name: select_database_size
-- How far a restore has come, in bytes.
SELECT pg_database_size(current_database())

-- name: select_what_is_there
-- Whether a restore began here and did not end; how many tables and views there are that no extension brought; and
-- whether the role that asks owns the database.
SELECT to_regnamespace('restoring') IS NOT NULL,
       (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
           AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
           AND NOT EXISTS (SELECT FROM pg_depend d
                            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')),
       (SELECT pg_has_role(current_user, datdba, 'USAGE') FROM pg_database WHERE datname = current_database())
