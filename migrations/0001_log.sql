-- The log: two append-only logs per program, and the head row that numbers and locks each of them.
-- Every per-program table leads its keys with program_id, so that the schema can be distributed by it.

-- One row a program: the name people use, and the id everything else carries.
CREATE TABLE programs (
    program_id  uuid        NOT NULL,
    program     text        NOT NULL,
    currency    text        NOT NULL,
    opened_at   timestamptz NOT NULL,
    PRIMARY KEY (program_id)
);

-- One row a log. Updating it is the lock under which positions are given out.
-- last_recorded_at keeps recorded_at from running backwards; master_position is the position of the last
-- change of master data, by which every process knows whether what it remembers of it is still true;
-- generation names the rows of the books that are live (a rebuild writes the next one beside it).
CREATE TABLE log_heads (
    program_id       uuid        NOT NULL,
    log              text        NOT NULL CHECK (log IN ('books', 'traffic')),
    next_position    bigint      NOT NULL CHECK (next_position >= 1),
    last_recorded_at timestamptz NOT NULL,
    master_position  bigint      NOT NULL,
    generation       integer     NOT NULL CHECK (generation >= 1),
    PRIMARY KEY (program_id, log)
) WITH (fillfactor = 50);

-- Everything that carries or decides money, and every change of master data.
CREATE TABLE book_events (
    program_id         uuid        NOT NULL,
    position           bigint      NOT NULL CHECK (position >= 1),
    originator_id      uuid        NOT NULL,
    originator_version bigint      NOT NULL,
    topic              text        NOT NULL,
    recorded_at        timestamptz NOT NULL,
    actor              text        NOT NULL,
    key_id             text        NOT NULL,
    request_id         text        NOT NULL,
    cause              text        NOT NULL,
    state              text        NOT NULL,
    leaf_hash          bytea       NOT NULL CHECK (length(leaf_hash) = 32),
    -- refuses a second event at one version of a stream: the natural key is the idempotency
    PRIMARY KEY (program_id, originator_id, originator_version),
    -- refuses two events at one position: the log has no forks
    UNIQUE (program_id, position)
);

-- Clicks: many and cheap, of the same shape.
CREATE TABLE traffic_events (
    program_id         uuid        NOT NULL,
    position           bigint      NOT NULL CHECK (position >= 1),
    originator_id      uuid        NOT NULL,
    originator_version bigint      NOT NULL,
    topic              text        NOT NULL,
    recorded_at        timestamptz NOT NULL,
    actor              text        NOT NULL,
    key_id             text        NOT NULL,
    request_id         text        NOT NULL,
    cause              text        NOT NULL,
    state              text        NOT NULL,
    leaf_hash          bytea       NOT NULL CHECK (length(leaf_hash) = 32),
    PRIMARY KEY (program_id, originator_id, originator_version),
    UNIQUE (program_id, position)
);

GRANT SELECT, INSERT ON programs TO ledger_app;
GRANT SELECT, INSERT ON log_heads TO ledger_app;
GRANT UPDATE (next_position, last_recorded_at, master_position, generation) ON log_heads TO ledger_app;
GRANT SELECT, INSERT ON book_events, traffic_events TO ledger_app;
