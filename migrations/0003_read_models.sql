-- Read models written in the append's transaction: work lists and directories. They decide nothing that the
-- log does not say, and can be rebuilt from it.

-- One row a conversion: what is due, held or waiting, and what was reversed of it.
CREATE TABLE conversions (
    program_id          uuid        NOT NULL,
    order_id            text        NOT NULL,
    originator_id       uuid        NOT NULL,
    status              text        NOT NULL CHECK (status IN
        ('pending', 'held', 'approved', 'rejected', 'reversed', 'unattributed', 'waiting')),
    affiliate_id        text        NOT NULL,  -- '' while nobody is credited
    offer_id            text        NOT NULL,
    currency            text        NOT NULL,
    amount              bigint      NOT NULL,
    commission          bigint      NOT NULL,
    reversed_amount     bigint      NOT NULL,
    reversed_commission bigint      NOT NULL,
    occurred_at         timestamptz NOT NULL,
    due_at              timestamptz,           -- pending: when it matures; waiting: when the wait for its click ends
    position            bigint      NOT NULL,  -- of the last event of its stream
    PRIMARY KEY (program_id, originator_id)
) WITH (fillfactor = 80);
CREATE INDEX conversions_due ON conversions (program_id, status, due_at) WHERE status IN ('pending', 'waiting');
CREATE INDEX conversions_held ON conversions (program_id, affiliate_id) WHERE status = 'held';

-- One row for every record that can be listed: affiliates, offers, coupons, adjustments, exceptions, keys.
-- The record itself is its stream; this row says that it exists, and in which state.
CREATE TABLE directory (
    program_id    uuid   NOT NULL,
    kind          text   NOT NULL,
    record_id     text   NOT NULL,
    originator_id uuid   NOT NULL,
    status        text   NOT NULL,
    type          text   NOT NULL,  -- an exception's type, a key's role; '' where there is none
    affiliate_id  text   NOT NULL,  -- '' where none is concerned
    position      bigint NOT NULL,
    PRIMARY KEY (program_id, kind, record_id)
);

-- Which clicks a customer made: how attribution finds the last one. Written with the click.
CREATE TABLE touches (
    program_id    uuid        NOT NULL,
    customer_id   text        NOT NULL,
    occurred_at   timestamptz NOT NULL,
    position      bigint      NOT NULL,
    originator_id uuid        NOT NULL,
    offer_id      text        NOT NULL,
    PRIMARY KEY (program_id, customer_id, occurred_at, position)
);

-- How far each follower of a log has come; moves in the transaction of the view it feeds.
CREATE TABLE followers (
    program_id uuid   NOT NULL,
    follower   text   NOT NULL,
    position   bigint NOT NULL,
    PRIMARY KEY (program_id, follower)
);

GRANT SELECT, INSERT, UPDATE ON conversions, directory, followers TO ledger_app;
GRANT SELECT, INSERT ON touches TO ledger_app;
