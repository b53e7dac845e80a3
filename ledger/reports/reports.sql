-- What the reports for auditors ask.

-- name: select_recorded_at
-- When a position was recorded.
SELECT recorded_at FROM book_events WHERE program_id = %(program_id)s AND position = %(position)s

-- name: select_checkpoint
-- The newest checkpoint of the books.
SELECT size, root, sealed_at FROM checkpoints
 WHERE program_id = %(program_id)s AND log = 'books' ORDER BY size DESC LIMIT 1

-- name: select_statement_rows
-- The statements of a period as the service lists them: of each affiliate the newest version up to one.
SELECT DISTINCT ON (affiliate_id) affiliate_id, version, sections::text, line_count, hash FROM statements
 WHERE program_id = %(program_id)s AND period = %(period)s AND version <= %(version)s
 ORDER BY affiliate_id, version DESC

-- name: count_lines
-- How many lines about affiliates a cut knows, of everything since the program began.
SELECT count(*) FROM journal
 WHERE program_id = %(program_id)s AND position <= %(position)s AND effective_at < %(ends_at)s AND affiliate_id <> ''
   AND generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')

-- name: count_statement_lines
-- How many lines the newest statements up to a cut's have.
SELECT coalesce(sum(line_count), 0)::bigint FROM (
       SELECT DISTINCT ON (affiliate_id, ends_at) line_count FROM statements
        WHERE program_id = %(program_id)s AND (ends_at < %(ends_at)s OR ends_at = %(ends_at)s AND version <= %(version)s)
        ORDER BY affiliate_id, ends_at, version DESC) newest

-- name: select_records
-- The events of all records of some kinds, in the order of the log.
SELECT e.position, e.recorded_at, e.topic, e.state, e.actor, e.key_id, e.request_id
  FROM directory d CROSS JOIN LATERAL (
       SELECT position, recorded_at, topic, state, actor, key_id, request_id FROM book_events
        WHERE program_id = %(program_id)s AND originator_id = d.originator_id
        ORDER BY originator_version LIMIT 2000000000) e
 WHERE d.program_id = %(program_id)s AND d.kind = ANY(%(kinds)s)
   AND e.position > %(after)s AND e.position <= %(until)s
 ORDER BY e.position

-- name: select_opening
-- A program's own stream: its settings.
SELECT position, recorded_at, topic, state, actor, key_id, request_id FROM book_events
 WHERE program_id = %(program_id)s AND originator_id = %(stream)s AND position > %(after)s AND position <= %(until)s
 ORDER BY originator_version

-- name: select_keys
-- Every access key as the service checks it.
SELECT key_id, role, holder, holder_kind, affiliate_id, issued_by, issued_at, expires_at, revoked_at FROM api_keys
 WHERE program_id = %(program_id)s ORDER BY issued_at, key_id

-- name: select_late
-- Lines recorded in a stretch of the log that had taken effect long before.
SELECT j.position, j.line_no, j.recorded_at, j.effective_at, j.affiliate_id, j.debit, j.credit, j.amount, j.currency,
       e.topic, e.actor, coalesce(e.state::jsonb ->> 'order_id', e.state::jsonb ->> 'adjustment_id',
                                  e.state::jsonb ->> 'payout_id', e.state::jsonb ->> 'line_id', '')
  FROM journal j JOIN book_events e ON e.program_id = %(program_id)s AND e.position = j.position
 WHERE j.program_id = %(program_id)s AND j.position > %(after)s AND j.position <= %(until)s
   AND j.recorded_at - j.effective_at > %(lag)s
   AND j.generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
 ORDER BY j.position, j.line_no

-- name: select_actors
-- Who asked for some events.
SELECT position, actor FROM book_events WHERE program_id = %(program_id)s AND position = ANY(%(positions)s)

-- name: select_runs
-- Attempts at jobs due in a time, in their order.
SELECT job, due_at, attempt, outcome, worker, started_at, finished_at, detail FROM job_runs
 WHERE program_id = %(program_id)s AND due_at >= %(since)s AND due_at < %(until)s
 ORDER BY job, due_at, attempt
