-- Questions about disputed statement lines.

-- name: select_line_on_statement
-- Whether a journal line stands on an affiliate's issued statement of a period: between the period's cut and the one
-- before, or carried over from that one.
SELECT EXISTS (
    SELECT 1
      FROM (SELECT * FROM periods WHERE program_id = %(program_id)s AND period = %(period)s
             ORDER BY version DESC LIMIT 1) cut
      JOIN journal j ON j.program_id = %(program_id)s AND j.position = %(position)s AND j.line_no = %(line_no)s
       AND j.generation = (SELECT generation FROM log_heads WHERE program_id = %(program_id)s AND log = 'books')
     WHERE j.affiliate_id = %(affiliate_id)s AND j.effective_at < cut.ends_at
       AND EXISTS (SELECT 1 FROM statements s WHERE s.program_id = %(program_id)s
                      AND s.affiliate_id = %(affiliate_id)s AND s.period = %(period)s)
       AND (j.position > cut.previous_position AND j.position <= cut.position
            OR EXISTS (SELECT 1 FROM carried_lines c WHERE c.program_id = %(program_id)s
                          AND c.period = cut.previous_period AND c.version = cut.previous_version
                          AND c.position = j.position AND c.line_no = j.line_no)))

-- name: select_of_affiliate
-- An affiliate's disputes behind an id, in the order of ids; those of one period where it is named.
SELECT record_id, originator_id FROM directory
 WHERE program_id = %(program_id)s AND kind = 'dispute' AND affiliate_id = %(affiliate_id)s AND record_id > %(after)s
   AND (%(status)s::text IS NULL OR status = %(status)s)
   AND (%(period)s::text IS NULL OR starts_with(record_id, %(period)s || '/'))
 ORDER BY record_id LIMIT %(limit)s
