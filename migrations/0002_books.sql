-- The books: double entry as transfers. A line moves amount > 0 from the credit account to the debit account,
-- so an unbalanced entry cannot be written down and the books sum to zero by construction.

-- One line a transfer. debit_balance and credit_balance are what both accounts held after it (debits count up),
-- so that a balance as of any position is two index probes, and a broken sum shows where it broke.
CREATE TABLE journal (
    program_id     uuid        NOT NULL,
    generation     integer     NOT NULL,
    position       bigint      NOT NULL,
    line_no        smallint    NOT NULL CHECK (line_no >= 1),
    debit          text        NOT NULL,
    credit         text        NOT NULL CHECK (debit <> credit),
    amount         bigint      NOT NULL CHECK (amount > 0),
    currency       text        NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    effective_at   timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL,
    affiliate_id   text        NOT NULL,
    debit_balance  bigint      NOT NULL,
    credit_balance bigint      NOT NULL,
    PRIMARY KEY (program_id, generation, position, line_no)
);
CREATE INDEX journal_by_debit ON journal (program_id, generation, debit, currency, position, line_no);
CREATE INDEX journal_by_credit ON journal (program_id, generation, credit, currency, position, line_no);

-- What every account holds now: the sum of its debits less its credits, and the position that last moved it.
CREATE TABLE balances (
    program_id   uuid    NOT NULL,
    generation   integer NOT NULL,
    account      text    NOT NULL,
    currency     text    NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    affiliate_id text    NOT NULL,  -- '' for the program's own accounts
    amount       bigint  NOT NULL,
    position     bigint  NOT NULL,
    PRIMARY KEY (program_id, generation, account, currency)
) WITH (fillfactor = 70);
CREATE INDEX balances_by_affiliate ON balances (program_id, generation, affiliate_id);

GRANT SELECT, INSERT ON journal TO ledger_app;
GRANT SELECT, INSERT, UPDATE (amount, position) ON balances TO ledger_app;
