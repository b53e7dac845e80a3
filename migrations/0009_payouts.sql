-- Payout runs and their payouts, as work lists: what is proposed, on its way, unknown, settled. Bank lines as they came.

CREATE TABLE payout_runs (
    program_id   uuid        NOT NULL,
    run_id       text        NOT NULL,
    period       text        NOT NULL,
    currency     text        NOT NULL,
    method       text        NOT NULL,
    attempt      integer     NOT NULL,
    status       text        NOT NULL CHECK (status IN
        ('begun', 'nothing_to_pay', 'proposed', 'approved', 'rejected', 'initiating', 'initiated')),
    cut_position bigint      NOT NULL,
    ends_at      timestamptz NOT NULL,
    position     bigint      NOT NULL,  -- of its last event
    PRIMARY KEY (program_id, run_id)
);

-- amount leaves the affiliate's payable balance; amount + vat_amount - withholding_amount is transferred.
CREATE TABLE payouts (
    program_id         uuid        NOT NULL,
    payout_id          text        NOT NULL,
    run_id             text        NOT NULL,
    affiliate_id       text        NOT NULL,
    currency           text        NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    method             text        NOT NULL,
    method_version     integer     NOT NULL,
    fingerprint        text        NOT NULL,
    status             text        NOT NULL CHECK (status IN
        ('proposed', 'excluded', 'initiated', 'unknown', 'settled', 'failed', 'returned')),
    amount             bigint      NOT NULL CHECK (amount > 0),
    owed_amount        bigint      NOT NULL CHECK (owed_amount >= amount),
    vat_amount         bigint      NOT NULL CHECK (vat_amount >= 0),
    withholding_amount bigint      NOT NULL CHECK (withholding_amount >= 0 AND withholding_amount <= amount),
    fee_amount         bigint      NOT NULL CHECK (fee_amount >= 0),
    invoice_number     text        NOT NULL,  -- '' until initiated
    reason             text        NOT NULL,  -- why it was excluded: a code
    initiated_at       timestamptz,
    initiated_position bigint,
    ended_at           timestamptz,           -- when the bank booked its settlement, failure or return
    bank_line_id       text        NOT NULL,  -- of the line that ended it; '' where a person did
    position           bigint      NOT NULL,
    PRIMARY KEY (program_id, payout_id)
) WITH (fillfactor = 70);
CREATE INDEX payouts_by_run ON payouts (program_id, run_id, payout_id);
CREATE INDEX payouts_by_affiliate ON payouts (program_id, affiliate_id, currency, position);
CREATE INDEX payouts_open ON payouts (program_id, status) WHERE status IN ('proposed', 'initiated', 'unknown');

CREATE TABLE bank_lines (
    program_id    uuid   NOT NULL,
    line_id       text   NOT NULL,
    booked_on     date   NOT NULL,
    amount        bigint NOT NULL,  -- below zero: money left
    charges       bigint NOT NULL,  -- inside amount
    currency      text   NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    end_to_end_id text   NOT NULL,
    outcome       text   NOT NULL,  -- settled, returned, confirmed, fee, break
    payout_id     text   NOT NULL,  -- '' where none is concerned
    position      bigint NOT NULL,
    PRIMARY KEY (program_id, line_id)
);
CREATE INDEX bank_lines_by_payout ON bank_lines (program_id, payout_id) WHERE payout_id <> '';

GRANT SELECT, INSERT ON bank_lines TO ledger_app;
GRANT SELECT, INSERT, UPDATE (status, position) ON payout_runs TO ledger_app;
GRANT SELECT, INSERT, UPDATE (status, fee_amount, invoice_number, reason, initiated_at, initiated_position, ended_at,
    bank_line_id, position) ON payouts TO ledger_app;
