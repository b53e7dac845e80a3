-- Touches: what attribution models need of clicks and impressions, found by customer and by visitor. The table follows
-- from the traffic log, so it is made anew and filled from there.
--
-- The primary key is all that is asked: a person's touches of a kind on an offer, by time. With the offer and the kind
-- in front of the time, a guest account with a million clicks on other offers costs no more than anybody else.
DROP TABLE touches;
CREATE TABLE touches (
    program_id    uuid        NOT NULL,
    person        text        NOT NULL,  -- 'customer:' or 'visitor:' and the id; a click with both has two rows
    occurred_at   timestamptz NOT NULL,
    position      bigint      NOT NULL,
    originator_id uuid        NOT NULL,
    kind          text        NOT NULL CHECK (kind IN ('click', 'impression')),
    offer_id      text        NOT NULL,
    affiliate_id  text        NOT NULL,
    channel       text,
    duplicate     boolean     NOT NULL,
    PRIMARY KEY (program_id, person, offer_id, kind, occurred_at, position)
);
GRANT SELECT, INSERT ON touches TO ledger_app;

-- In the order of the key: the index grows at its end.
INSERT INTO touches (program_id, person, occurred_at, position, originator_id, kind, offer_id, affiliate_id, channel,
                     duplicate)
SELECT e.program_id, who.person, click.occurred_at, e.position, e.originator_id, 'click', click.offer_id,
       click.affiliate_id, click.channel, coalesce(click.duplicate, false)
  FROM traffic_events e
 CROSS JOIN LATERAL json_to_record(e.state::json) AS click (customer_id text, visitor_id text, occurred_at timestamptz,
                                                            offer_id text, affiliate_id text, channel text,
                                                            duplicate boolean)
 CROSS JOIN LATERAL (VALUES ('customer:' || click.customer_id), ('visitor:' || click.visitor_id)) AS who (person)
 WHERE e.topic = 'ClickRecorded' AND who.person IS NOT NULL
 ORDER BY e.program_id, who.person, click.offer_id, click.occurred_at, e.position;
