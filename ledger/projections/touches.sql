-- Touches: who clicked on, or saw, what. Every look-up is one probe of the primary key for each of those that are asked
-- about: the LIMITs keep the planner at it, also while its statistics lag behind.

-- name: select_clicks
-- The recorded clicks among some streams.
SELECT e.* FROM unnest(%(ids)s::uuid[]) AS wanted (id) CROSS JOIN LATERAL (
       SELECT position, topic, state, leaf_hash FROM traffic_events
        WHERE program_id = %(program_id)s AND originator_id = wanted.id LIMIT 2000000000) e

-- name: select_last_clicks
-- Each person's last click on an offer at or before an instant, whole.
SELECT q.n, e.position, e.topic, e.state, e.leaf_hash
  FROM unnest(%(persons)s::text[], %(offers)s::text[], %(untils)s::timestamptz[])
       WITH ORDINALITY AS q (person, offer_id, until, n)
 CROSS JOIN LATERAL (
       SELECT originator_id FROM touches t
        WHERE t.program_id = %(program_id)s AND t.person = q.person AND t.offer_id = q.offer_id AND t.kind = 'click'
          AND t.occurred_at <= q.until
        ORDER BY t.occurred_at DESC, t.position DESC LIMIT 1) last
  JOIN traffic_events e ON e.program_id = %(program_id)s AND e.originator_id = last.originator_id

-- name: select_touches
-- The touches of some journeys, without duplicates: of a person's on an offer the newest ones of each kind. Keys come as
-- one JSON text, because psycopg takes longer over arrays than all the rest takes.
SELECT q.n, t.position, t.affiliate_id, t.occurred_at, w.kind, t.channel
  FROM json_to_recordset(%(keys)s::json)
       AS q (n bigint, customer_id text, visitor_id text, offer_id text, clicks_since timestamptz,
             impressions_since timestamptz, until timestamptz)
 CROSS JOIN LATERAL (VALUES ('customer:' || q.customer_id, 'click', q.clicks_since),
                            ('visitor:' || q.visitor_id, 'click', q.clicks_since),
                            ('customer:' || q.customer_id, 'impression', q.impressions_since),
                            ('visitor:' || q.visitor_id, 'impression', q.impressions_since)) AS w (person, kind, since)
 CROSS JOIN LATERAL (
       SELECT position, affiliate_id, occurred_at, channel FROM touches
        WHERE program_id = %(program_id)s AND person = w.person AND offer_id = q.offer_id AND kind = w.kind
          AND occurred_at >= w.since AND occurred_at <= q.until AND NOT duplicate
        ORDER BY occurred_at DESC, position DESC LIMIT %(most)s) t
 WHERE w.person IS NOT NULL AND w.since IS NOT NULL
