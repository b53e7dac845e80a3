-- Questions about breaks. The directory knows which there are, and the position of each one's newest opening; what
-- they say stands in their streams.

-- name: select_page
-- Breaks whose newest opening stands behind a position, oldest first.
SELECT originator_id, record_id, position FROM directory
 WHERE program_id = %(program_id)s AND kind = 'break' AND position > %(after)s
   AND (%(status)s::text IS NULL OR status = %(status)s) AND (%(type)s::text IS NULL OR type = %(type)s)
 ORDER BY position LIMIT %(limit)s

-- name: select_ageing
-- Open breaks by source, type, currency and age in days, with the sum of their differences in minor units.
SELECT source, type, currency,
       CASE WHEN days <= 7 THEN '0-7' WHEN days <= 30 THEN '8-30' WHEN days <= 90 THEN '31-90' ELSE '>90' END AS age,
       count(*), sum(abs(found - expected))::bigint
  FROM (SELECT d.type, first.state ->> 'source' AS source, coalesce(newest.state ->> 'currency', '') AS currency,
               coalesce((newest.state ->> 'expected_amount')::bigint, 0) AS expected,
               coalesce((newest.state ->> 'found_amount')::bigint, 0) AS found,
               floor(extract(epoch FROM %(now)s - opening.recorded_at) / 86400) AS days
          FROM directory d
          JOIN book_events opening ON opening.program_id = %(program_id)s AND opening.position = d.position
         CROSS JOIN LATERAL (SELECT e.state::jsonb AS state FROM book_events e
                              WHERE e.program_id = %(program_id)s AND e.originator_id = d.originator_id
                                AND e.originator_version = 1 OFFSET 0) first
         CROSS JOIN LATERAL (SELECT e.state::jsonb AS state FROM book_events e
                              WHERE e.program_id = %(program_id)s AND e.originator_id = d.originator_id
                                AND e.topic IN ('BreakOpened', 'BreakChanged', 'BreakReopened')
                              ORDER BY e.originator_version DESC LIMIT 1) newest
         WHERE d.program_id = %(program_id)s AND d.kind = 'break' AND d.status = 'open') open_breaks
 GROUP BY source, type, currency, age
 ORDER BY source, type, currency, min(days)
