-- Shared credit: a conversion has one row for each commission on it, in the order in which they accrued.
--
-- Every conversion so far has one commission or none, in the sale's currency.
ALTER TABLE conversions
  ADD COLUMN share_no            smallint,  -- 1: the first commission, or the sale alone while nobody is credited
  ADD COLUMN level               smallint,  -- 2: of who recruited the affiliate that is credited
  ADD COLUMN commission_currency text,      -- of commission and reversed_commission; currency is the sale's
  ADD COLUMN recorded_position   bigint,    -- of the sale itself; in the first row
  ADD COLUMN customer_id         text,
  ADD COLUMN event_id            text,
  ADD COLUMN channel             text;

UPDATE conversions c
   SET share_no = 1, level = 1, commission_currency = c.currency, recorded_position = e.position,
       customer_id = sale.customer_id, event_id = sale.event_id, channel = sale.channel
  FROM book_events e
 CROSS JOIN LATERAL json_to_record(e.state::json) AS sale (customer_id text, event_id text, channel text)
 WHERE e.program_id = c.program_id AND e.originator_id = c.originator_id AND e.topic = 'ConversionRecorded';

ALTER TABLE conversions
  ALTER COLUMN share_no SET NOT NULL,
  ALTER COLUMN level SET NOT NULL,
  ALTER COLUMN commission_currency SET NOT NULL,
  DROP CONSTRAINT conversions_pkey,
  ADD PRIMARY KEY (program_id, originator_id, share_no);

-- A customer's sales on an offer by time, and of one instant in the order of recording: which was the first.
CREATE INDEX conversions_by_customer ON conversions (program_id, customer_id, offer_id, occurred_at, recorded_position)
 WHERE customer_id IS NOT NULL AND share_no = 1;
-- An affiliate's sales on an offer by time: what a tier's counter counted.
CREATE INDEX conversions_by_affiliate ON conversions (program_id, offer_id, affiliate_id, occurred_at);

-- An affiliate sees its own rows only, and not how many others there are.
CREATE OR REPLACE VIEW reader.conversions WITH (security_barrier) AS
    SELECT c.program_id, c.order_id, c.status, c.affiliate_id, c.offer_id, c.currency, c.amount, c.commission,
           c.reversed_amount, c.reversed_commission, c.occurred_at, c.due_at, c.position, c.level,
           c.commission_currency
      FROM public.conversions c
     WHERE c.program_id = nullif(current_setting('app.program_id', true), '')::uuid
       AND coalesce(nullif(current_setting('app.affiliate_id', true), ''), c.affiliate_id) = c.affiliate_id;
