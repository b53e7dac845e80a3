-- Closed periods and the statements issued for them. All of it follows from the log, and can be made again from it.

-- One row a version of a closed period: its cut is (position, ends_at). A statement has the lines up to position that
-- happened before ends_at and lie behind the cut before, (previous_position, the end of previous_period).
CREATE TABLE periods (
    program_id        uuid        NOT NULL,
    period            text        NOT NULL,
    version           integer     NOT NULL CHECK (version >= 1),
    starts_at         timestamptz,           -- null: the first period, which everything earlier belongs to
    ends_at           timestamptz NOT NULL,
    position          bigint      NOT NULL,
    previous_period   text        NOT NULL,  -- '' for the first
    previous_version  integer     NOT NULL,
    previous_position bigint      NOT NULL,
    status            text        NOT NULL CHECK (status IN ('closing', 'closed')),
    statement_count   bigint      NOT NULL,
    line_count        bigint      NOT NULL,
    closed_at         timestamptz NOT NULL,
    PRIMARY KEY (program_id, period, version)
);

-- Lines that a cut knew, but that belong to a later period: the next statements take them from here.
CREATE TABLE carried_lines (
    program_id uuid     NOT NULL,
    period     text     NOT NULL,
    version    integer  NOT NULL,
    position   bigint   NOT NULL,
    line_no    smallint NOT NULL,
    PRIMARY KEY (program_id, period, version, position, line_no)
);

-- One row an issued version of a statement. sections: its figures by currency, as in the event.
CREATE TABLE statements (
    program_id   uuid    NOT NULL,
    affiliate_id text    NOT NULL,
    period       text    NOT NULL,
    version      integer NOT NULL,
    ends_at      timestamptz NOT NULL,
    sections     jsonb   NOT NULL,
    line_count   bigint  NOT NULL,
    hash         text    NOT NULL CHECK (length(hash) = 64),
    position     bigint  NOT NULL,  -- of its StatementIssued
    PRIMARY KEY (program_id, affiliate_id, period, version)
);
CREATE INDEX statements_by_period ON statements (program_id, period, version, affiliate_id);

GRANT SELECT, INSERT, UPDATE (status, statement_count, line_count) ON periods TO ledger_app;
GRANT SELECT, INSERT ON carried_lines, statements TO ledger_app;
