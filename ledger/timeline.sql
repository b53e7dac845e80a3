-- Timelines.

-- name: select_affiliate
-- An affiliate's events behind a position: those that name it, and those of its records that do not (what became of a
-- notice, a break, a dispute, an exception, a key). One index scan, and one probe a record: what is said of state and
-- topic is the index book_events_by_affiliate, letter for letter. (ConversionAttributed came later: it lists everybody's
-- touches, and is no one affiliate's.)
SELECT position, recorded_at, originator_id, topic, state, actor, key_id, request_id, cause FROM (
       (SELECT position, recorded_at, originator_id, topic, state, actor, key_id, request_id, cause FROM book_events
         WHERE program_id = %(program_id)s
           AND split_part(split_part(state, '"affiliate_id":"', 2), '"', 1) = %(affiliate_id)s
           AND topic NOT IN ('ConversionRecorded', 'ConversionUnattributed', 'ExceptionRaised')
           AND topic <> 'ConversionAttributed' AND position > %(after)s AND (%(topics)s::text[] IS NULL OR topic = ANY(%(topics)s))
         ORDER BY position LIMIT %(limit)s)
       UNION
       (SELECT e.position, e.recorded_at, e.originator_id, e.topic, e.state, e.actor, e.key_id, e.request_id, e.cause
          FROM (SELECT kind, originator_id, position FROM directory
                 WHERE program_id = %(program_id)s AND affiliate_id = %(affiliate_id)s AND affiliate_id <> ''
                 UNION ALL
                SELECT 'erasure', %(erasure)s::uuid, NULL) d
         CROSS JOIN LATERAL (
               SELECT position, recorded_at, originator_id, topic, state, actor, key_id, request_id, cause
                 FROM book_events
                WHERE program_id = %(program_id)s AND originator_id = d.originator_id AND position > %(after)s
                ORDER BY originator_version LIMIT 2000000000) e
         WHERE (d.kind IN ('break', 'exception', 'erasure') OR d.kind IN ('notice', 'dispute', 'key') AND d.position > %(after)s)
           AND (d.kind <> 'exception' OR e.topic IN ('ExceptionRaised', 'ExceptionResolved'))
           AND (%(topics)s::text[] IS NULL OR e.topic = ANY(%(topics)s))
         ORDER BY e.position LIMIT %(limit)s)) found
 ORDER BY position LIMIT %(limit)s

-- name: select_streams
-- Every event of some streams of the books.
SELECT e.* FROM unnest(%(ids)s::uuid[]) AS wanted (id) CROSS JOIN LATERAL (
       SELECT position, recorded_at, originator_id, topic, state, actor, key_id, request_id, cause FROM book_events
        WHERE program_id = %(program_id)s AND originator_id = wanted.id
        ORDER BY originator_version LIMIT 2000000000) e

-- name: select_clicks
-- The same of the traffic log.
SELECT e.* FROM unnest(%(ids)s::uuid[]) AS wanted (id) CROSS JOIN LATERAL (
       SELECT position, recorded_at, originator_id, topic, state, actor, key_id, request_id, cause FROM traffic_events
        WHERE program_id = %(program_id)s AND originator_id = wanted.id
        ORDER BY originator_version LIMIT 2000000000) e

-- name: select_beside
-- What the commands that made some events wrote just before them.
SELECT DISTINCT e.* FROM unnest(%(positions)s::bigint[]) AS wanted (at) CROSS JOIN LATERAL (
       SELECT position, recorded_at, originator_id, topic, state, actor, key_id, request_id, cause FROM book_events
        WHERE program_id = %(program_id)s AND position >= wanted.at - 3 AND position < wanted.at
        ORDER BY position LIMIT 3) e
 WHERE e.topic IN ('CreditNoteIssued', 'InvoiceNumbersTaken')

-- name: select_disputes
-- An affiliate's disputes about lines of some events.
SELECT d.record_id FROM directory d CROSS JOIN LATERAL (
       SELECT state FROM book_events
        WHERE program_id = %(program_id)s AND originator_id = d.originator_id AND originator_version = 1
        LIMIT 1) e
 WHERE d.program_id = %(program_id)s AND d.affiliate_id = %(affiliate_id)s AND d.affiliate_id <> ''
   AND d.kind = 'dispute' AND (e.state::jsonb ->> 'position')::bigint = ANY(%(positions)s)

-- name: select_breaks
-- An affiliate's breaks, as they were opened.
SELECT d.record_id, e.topic, e.state FROM directory d CROSS JOIN LATERAL (
       SELECT topic, state FROM book_events
        WHERE program_id = %(program_id)s AND originator_id = d.originator_id AND originator_version = 1
        LIMIT 1) e
 WHERE d.program_id = %(program_id)s AND d.affiliate_id = %(affiliate_id)s AND d.affiliate_id <> ''
   AND d.kind = 'break'

-- name: select_first_cuts
-- Of the lines of some events: the period and version on whose statements they stood first.
SELECT DISTINCT first.period, first.version
  FROM journal j CROSS JOIN LATERAL (
       SELECT period, version FROM periods
        WHERE program_id = %(program_id)s AND position >= j.position AND ends_at > j.effective_at
        ORDER BY ends_at, version LIMIT 1) first
 WHERE j.program_id = %(program_id)s AND j.position = ANY(%(positions)s)
   AND j.generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')

-- name: select_paying
-- The first payout, of those that were sent, whose run knew that some lines were payable.
SELECT DISTINCT first.payout_id
  FROM journal j CROSS JOIN LATERAL (
       SELECT p.payout_id FROM payouts p
         JOIN payout_runs r ON r.program_id = %(program_id)s AND r.run_id = p.run_id
        WHERE p.program_id = %(program_id)s AND p.affiliate_id = j.affiliate_id AND p.currency = j.currency
          AND p.initiated_position IS NOT NULL AND r.cut_position >= j.position AND r.ends_at > j.effective_at
        ORDER BY r.ends_at, p.initiated_position LIMIT 1) first
 WHERE j.program_id = %(program_id)s AND j.position = ANY(%(positions)s)
   AND j.credit = 'liability:' || j.affiliate_id || ':payable'
   AND j.generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')

-- name: select_bank_lines
-- The bank's lines that name a payout.
SELECT line_id FROM bank_lines
 WHERE program_id = %(program_id)s AND payout_id = %(payout_id)s AND payout_id <> '' ORDER BY line_id
