-- How far each witness has been told.

-- name: select_told
-- The size of the newest checkpoint that a witness took, 0 before the first.
SELECT coalesce(max(size), 0) FROM publications
 WHERE program_id = %(program_id)s AND log = %(log)s AND witness = %(witness)s

-- name: insert_publication
-- A witness took a checkpoint; told twice by two processes, it stands once.
INSERT INTO publications (program_id, log, witness, size, cosignatures, published_at)
VALUES (%(program_id)s, %(log)s, %(witness)s, %(size)s, %(cosignatures)s, %(published_at)s)
ON CONFLICT DO NOTHING

-- name: select_publications
-- The newest checkpoint that each witness took, of every log.
SELECT DISTINCT ON (log, witness) log, witness, size, cosignatures, published_at FROM publications
 WHERE program_id = %(program_id)s
 ORDER BY log, witness, size DESC
