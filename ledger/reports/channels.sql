-- The channel report: touches in the traffic log, and orders with what credits them.

-- name: count_touches
-- Clicks and impressions that happened in a time, without duplicates, by channel and affiliate.
SELECT coalesce(touch.channel, '') AS channel, touch.affiliate_id, count(*) FILTER (WHERE e.topic = 'ClickRecorded'),
       count(*) FILTER (WHERE e.topic = 'ImpressionRecorded')
  FROM traffic_events e
 CROSS JOIN LATERAL json_to_record(e.state::json) AS touch (offer_id text, affiliate_id text, occurred_at timestamptz,
                                                            channel text, duplicate boolean)
 WHERE e.program_id = %(program_id)s AND e.topic IN ('ClickRecorded', 'ImpressionRecorded')
   AND NOT coalesce(touch.duplicate, false)
   AND touch.occurred_at >= coalesce(%(since)s, '-infinity'::timestamptz)
   AND touch.occurred_at < coalesce(%(until)s, 'infinity'::timestamptz)
   AND touch.offer_id = coalesce(%(offer)s, touch.offer_id)
 GROUP BY coalesce(touch.channel, ''), touch.affiliate_id

-- name: select_orders
-- Orders that occurred in a time, some at once, in the order of their streams: a row for each commission (or for the sale
-- alone), with the first one what credits it: the journey, and the channel of the click.
WITH page AS (
       SELECT originator_id FROM conversions
        WHERE program_id = %(program_id)s AND share_no = 1
          AND originator_id > coalesce(%(after)s, '00000000-0000-0000-0000-000000000000'::uuid)
          AND occurred_at >= coalesce(%(since)s, '-infinity'::timestamptz)
          AND occurred_at < coalesce(%(until)s, 'infinity'::timestamptz)
          AND offer_id = coalesce(%(offer)s, offer_id)
        ORDER BY originator_id
        LIMIT %(limit)s)
SELECT c.originator_id, c.order_id, c.affiliate_id, c.level, c.status, c.currency, c.amount - c.reversed_amount,
       c.commission_currency, c.commission - c.reversed_commission, coalesce(c.channel, click.state::json ->> 'channel'),
       why.attributed
  FROM page
  JOIN conversions c ON c.program_id = %(program_id)s AND c.originator_id = page.originator_id
  LEFT JOIN LATERAL (
       SELECT max(e.state) FILTER (WHERE e.topic = 'ConversionAttributed') AS attributed,
              max((e.state::json ->> 'click_position')::bigint) FILTER (WHERE e.topic = 'CommissionAccrued') AS position
         FROM book_events e
        WHERE e.program_id = %(program_id)s AND e.originator_id = c.originator_id
          AND e.topic IN ('ConversionAttributed', 'CommissionAccrued')) why ON c.share_no = 1
  LEFT JOIN traffic_events click
    ON click.program_id = %(program_id)s AND click.position = why.position AND c.channel IS NULL
 ORDER BY c.originator_id, c.share_no
