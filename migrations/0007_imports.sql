-- Imports: a merchant's order exports, as far as they are needed to match a refund, which names no order, with the
-- orders that it takes back. Work tables: the log says what was recorded; these say what a file said, so that an
-- interrupted import goes on where it stopped and a refund in a later file finds the orders of earlier ones.

-- One row a program: whoever writes it has the program's turn to read and match a file, until the transaction ends.
CREATE TABLE import_turns (
    program_id uuid        NOT NULL,
    taken_at   timestamptz NOT NULL,
    PRIMARY KEY (program_id)
);

-- One row a file and the way it was read: import_id is derived from its content, its mapping and its offer.
CREATE TABLE import_files (
    program_id  uuid        NOT NULL,
    import_id   uuid        NOT NULL,
    file_name   text        NOT NULL,
    offer_id    text        NOT NULL,
    currency    text        NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    enrol       boolean     NOT NULL,  -- whether affiliates that are not known are enrolled and approved
    state       text        NOT NULL CHECK (state IN ('matched', 'recorded')),
    matched_at  timestamptz NOT NULL,
    totals      text,                  -- JSON: what the import said when everything was recorded
    PRIMARY KEY (program_id, import_id)
);

-- The lines of a file. Once everything is recorded only the sale lines stay to which a later refund may refer.
-- kind: a sale, a refund, or neither; amount: minor units of a sale line; fact: JSON, what is kept of a line that
-- may become an exception.
CREATE TABLE import_lines (
    program_id   uuid        NOT NULL,
    import_id    uuid        NOT NULL,
    line_no      bigint      NOT NULL,
    invoice      text        NOT NULL,
    kind         text        NOT NULL CHECK (kind IN ('sale', 'refund', 'neither')),
    sku          text        NOT NULL,
    customer_id  text,
    quantity     bigint      NOT NULL,  -- above zero for sales, and for refunds what is given back
    price        numeric     NOT NULL,  -- of one, in major units, exactly as the file says
    amount       bigint      NOT NULL,
    occurred_at  timestamptz NOT NULL,
    affiliate_id text        NOT NULL,  -- '' where the line names none
    fact         text,
    PRIMARY KEY (program_id, import_id, invoice, line_no)
);
CREATE INDEX import_lines_by_customer ON import_lines (program_id, customer_id, sku)
    WHERE kind = 'sale' AND customer_id IS NOT NULL;

-- The invoices of a file. standing: 'new' (this file brought it first), 'again' (an earlier file had it with the same
-- lines) or 'changed' (with other lines). Once everything is recorded only the new ones stay.
CREATE TABLE import_invoices (
    program_id  uuid        NOT NULL,
    import_id   uuid        NOT NULL,
    invoice     text        NOT NULL,
    standing    text        NOT NULL CHECK (standing IN ('new', 'again', 'changed')),
    first_line  bigint      NOT NULL,
    occurred_at timestamptz NOT NULL,  -- its first line's
    amount      bigint      NOT NULL,  -- of its sale lines, minor units
    digest      bytea       NOT NULL CHECK (length(digest) = 32),  -- of its lines
    PRIMARY KEY (program_id, import_id, invoice)
);
CREATE UNIQUE INDEX import_invoices_new ON import_invoices (program_id, invoice) WHERE standing = 'new';

-- Which part of a refund line was matched to which line of an order. refund_ordinal: the line's place in its invoice,
-- from 1; order_line_no: the line of the file that brought the order first.
CREATE TABLE import_matches (
    program_id     uuid    NOT NULL,
    refund_invoice text    NOT NULL,
    refund_ordinal integer NOT NULL,
    part_no        integer NOT NULL,
    order_id       text    NOT NULL,
    order_line_no  bigint  NOT NULL,
    quantity       bigint  NOT NULL CHECK (quantity > 0),
    amount         bigint  NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (program_id, refund_invoice, refund_ordinal, part_no)
);
CREATE INDEX import_matches_by_order ON import_matches (program_id, order_id, order_line_no);

-- The reversals that follow: one a refund invoice and order, its amount capped at what was left of the order.
CREATE TABLE import_reversals (
    program_id     uuid        NOT NULL,
    refund_invoice text        NOT NULL,
    order_id       text        NOT NULL,
    occurred_at    timestamptz NOT NULL,
    amount         bigint      NOT NULL CHECK (amount > 0),
    PRIMARY KEY (program_id, refund_invoice, order_id)
);

GRANT SELECT, INSERT, UPDATE (taken_at) ON import_turns TO ledger_app;
GRANT SELECT, INSERT, UPDATE (state, totals) ON import_files TO ledger_app;
GRANT SELECT, INSERT, DELETE ON import_lines, import_invoices TO ledger_app;
GRANT SELECT, INSERT ON import_matches, import_reversals TO ledger_app;
