-- Who proposed and who decided.

-- name: select_decided
-- What was decided behind a position, in the order of the log: the topics are those of the index
-- book_events_decisions, letter for letter, without which this would read the whole log.
SELECT position, originator_id FROM book_events
 WHERE program_id = %(program_id)s AND position > %(after)s
   AND topic IN ('AdjustmentPosted', 'AdjustmentRejected', 'DisputeAccepted', 'DisputeRejected', 'ErasureRejected',
                 'PayoutMethodApproved', 'PayoutMethodRejected', 'PayoutRunApproved', 'PayoutRunRejected',
                 'SimulationApproved', 'SimulationRejected', 'SubjectErased', 'TaxRulesPublished', 'TaxRulesRejected',
                 'TermsPublished', 'TermsRejected')
 ORDER BY position LIMIT %(limit)s

-- name: select_steps
-- Some streams' events of some topics, by stream and version.
SELECT e.* FROM unnest(%(ids)s::uuid[]) AS wanted (id) CROSS JOIN LATERAL (
       SELECT originator_id, topic, state, position, recorded_at, actor FROM book_events
        WHERE program_id = %(program_id)s AND originator_id = wanted.id AND topic = ANY(%(topics)s)
        ORDER BY originator_version LIMIT 2000000000) e
