-- Clicks that are paid, counted in the traffic log.

-- name: count_clicks
-- The clicks of a stretch, without duplicates, that lie in the spans in which their offers pay for clicks: by offer,
-- affiliate, day on the program's clock, channel and version of the terms.
SELECT click.offer_id, click.affiliate_id, to_char(click.occurred_at AT TIME ZONE %(zone)s, 'YYYY-MM-DD') AS day,
       coalesce(click.channel, '') AS channel, span.terms_version, max(click.occurred_at), count(*)
  FROM traffic_events e
 CROSS JOIN LATERAL json_to_record(e.state::json) AS click (offer_id text, affiliate_id text, occurred_at timestamptz,
                                                            channel text, duplicate boolean)
  JOIN jsonb_to_recordset(%(spans)s::jsonb) AS span (offer_id text, terms_version integer, since timestamptz,
                                                     until timestamptz)
    ON span.offer_id = click.offer_id AND click.occurred_at >= span.since
   AND click.occurred_at < coalesce(span.until, 'infinity')
 WHERE e.program_id = %(program_id)s AND e.position > %(after)s AND e.position <= %(until)s
   AND e.topic = 'ClickRecorded' AND NOT coalesce(click.duplicate, false)
 GROUP BY click.offer_id, click.affiliate_id, day, coalesce(click.channel, ''), span.terms_version
 ORDER BY click.offer_id, click.affiliate_id, day, channel, span.terms_version
 LIMIT %(limit)s

-- name: select_kept
-- Which of some conversions were kept as exceptions.
SELECT record_id FROM directory
 WHERE program_id = %(program_id)s AND kind = 'exception' AND record_id = ANY(%(streams)s)
