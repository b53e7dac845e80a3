-- Erasures in the log.

-- name: select_erased
-- Every erasure of a program, oldest first; the index book_events_decisions finds them.
SELECT position, leaf_hash, recorded_at, topic, state FROM book_events
 WHERE program_id = %(program_id)s AND topic = 'SubjectErased'
 ORDER BY position
