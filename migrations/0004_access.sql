-- Who may ask: API keys (only an HMAC of the secret is kept), and the keys that make personal data readable.

CREATE TABLE api_keys (
    program_id   uuid        NOT NULL,
    key_id       text        NOT NULL,
    role         text        NOT NULL CHECK (role IN
        ('admin', 'ingest', 'finance_maker', 'finance_checker', 'auditor', 'affiliate')),
    holder       text        NOT NULL,
    holder_kind  text        NOT NULL CHECK (holder_kind IN ('person', 'system')),
    affiliate_id text        NOT NULL CHECK ((role = 'affiliate') = (affiliate_id <> '')),
    secret_hmac  bytea       NOT NULL CHECK (length(secret_hmac) = 32),
    issued_by    text        NOT NULL,
    issued_at    timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz,
    PRIMARY KEY (program_id, key_id),
    -- nobody issues a key to themselves
    CHECK (issued_by <> holder)
);
GRANT SELECT, INSERT, UPDATE (revoked_at) ON api_keys TO ledger_app;

-- Data keys, wrapped by the service's master key, in a schema of their own: a backup of the ledger leaves it out,
-- and deleting a row erases the person everywhere, restored backups included.
CREATE SCHEMA vault;
CREATE TABLE vault.subject_keys (
    program_id  uuid        NOT NULL,
    subject     text        NOT NULL,
    wrapped_key bytea       NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (program_id, subject)
);
GRANT USAGE ON SCHEMA vault TO ledger_app;
GRANT SELECT, INSERT, DELETE ON vault.subject_keys TO ledger_app;
