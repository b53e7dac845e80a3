-- Simulations: what was asked for and what it found, beside the log. What is decided about them stands in the log.

-- One row a simulation. request: JSON (offer_id, terms, model, from, to); progress: the position that it has come to;
-- as_of: up to where the books were read; report: JSON, '' before it is done; failure: the class of an error.
CREATE TABLE simulations (
    program_id    uuid        NOT NULL,
    simulation_id text        NOT NULL,
    requested_by  text        NOT NULL,
    requested_at  timestamptz NOT NULL,
    request       text        NOT NULL,
    status        text        NOT NULL CHECK (status IN ('queued', 'running', 'done', 'failed', 'proposed', 'approved',
                                                         'rejected', 'applying', 'applied')),
    progress      bigint      NOT NULL,
    as_of         bigint,
    report        text        NOT NULL,
    line_count    bigint      NOT NULL,
    lines_hash    text        NOT NULL,
    failure       text        NOT NULL,
    changed_at    timestamptz NOT NULL,
    PRIMARY KEY (program_id, simulation_id)
);
CREATE INDEX simulations_to_do ON simulations (program_id, requested_at, simulation_id)
    WHERE status IN ('queued', 'running', 'applying');

-- What an application works through, in order. was, would: the whole commission, minor units; outcome: '' before the
-- line was looked at, applied, or why its order was left as it is.
CREATE TABLE simulation_lines (
    program_id      uuid        NOT NULL,
    simulation_id   text        NOT NULL,
    line_no         bigint      NOT NULL,
    order_id        text        NOT NULL,
    affiliate_id    text        NOT NULL,
    level           smallint    NOT NULL,
    was             bigint      NOT NULL,
    would           bigint      NOT NULL,
    credited_amount bigint      NOT NULL,
    currency        text        NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    reason          text        NOT NULL,
    occurred_at     timestamptz NOT NULL,
    matures_at      timestamptz NOT NULL,
    outcome         text        NOT NULL,
    PRIMARY KEY (program_id, simulation_id, line_no)
);
CREATE INDEX simulation_lines_left ON simulation_lines (program_id, simulation_id, line_no) WHERE outcome = '';

-- What a second person decided: simulations belong to it.
DROP INDEX book_events_decisions;
CREATE INDEX book_events_decisions ON book_events (program_id, position)
 WHERE topic IN ('AdjustmentPosted', 'AdjustmentRejected', 'DisputeAccepted', 'DisputeRejected', 'ErasureRejected',
                 'PayoutMethodApproved', 'PayoutMethodRejected', 'PayoutRunApproved', 'PayoutRunRejected',
                 'SimulationApproved', 'SimulationRejected', 'SubjectErased', 'TaxRulesPublished', 'TaxRulesRejected',
                 'TermsPublished', 'TermsRejected');

-- A run that died begins again, with other lines.
GRANT SELECT, INSERT, UPDATE (status, progress, as_of, report, line_count, lines_hash, failure, changed_at)
    ON simulations TO ledger_app;
GRANT SELECT, INSERT, DELETE, UPDATE (outcome) ON simulation_lines TO ledger_app;
