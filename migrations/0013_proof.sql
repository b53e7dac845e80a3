-- Proof: the sealed logs. What stands here is derived from the logs and signed; it never changes.

-- The Merkle tree of a log in complete tiles (C2SP tlog-tiles): 256 hashes of 32 bytes, level 0 the leaf hashes. What
-- is behind the last complete tile is computed from the rows. root: over the tile's hashes, which is one hash of the
-- tile above; it stands here once more, because a proof needs up to 255 of them while that tile is not complete.
CREATE TABLE tiles (
    program_id uuid     NOT NULL,
    log        text     NOT NULL CHECK (log IN ('books', 'traffic')),
    level      smallint NOT NULL CHECK (level >= 0),
    tile_index bigint   NOT NULL CHECK (tile_index >= 0),
    hashes     bytea    NOT NULL CHECK (length(hashes) = 8192),
    root       bytea    NOT NULL CHECK (length(root) = 32),
    PRIMARY KEY (program_id, log, level, tile_index)
);

-- One row a checkpoint: the root over the first `size` positions; note: the signed note as it was published.
CREATE TABLE checkpoints (
    program_id uuid        NOT NULL,
    log        text        NOT NULL CHECK (log IN ('books', 'traffic')),
    size       bigint      NOT NULL CHECK (size >= 1),
    root       bytea       NOT NULL CHECK (length(root) = 32),
    note       text        NOT NULL,
    sealed_at  timestamptz NOT NULL,
    PRIMARY KEY (program_id, log, size)
);

-- The public keys that ever signed: verifier_key is the line that others are given. first_size: of the first
-- checkpoint that it signed.
CREATE TABLE sealing_keys (
    program_id   uuid        NOT NULL,
    log          text        NOT NULL CHECK (log IN ('books', 'traffic')),
    verifier_key text        NOT NULL,
    first_size   bigint      NOT NULL,
    first_at     timestamptz NOT NULL,
    PRIMARY KEY (program_id, log, verifier_key)
);

-- The public keys that signed and then did not: last_size is of the last checkpoint that each signed. A key that comes
-- back and goes again has another row.
CREATE TABLE retired_keys (
    program_id   uuid        NOT NULL,
    log          text        NOT NULL CHECK (log IN ('books', 'traffic')),
    verifier_key text        NOT NULL,
    last_size    bigint      NOT NULL,
    retired_at   timestamptz NOT NULL,
    PRIMARY KEY (program_id, log, verifier_key, last_size)
);

-- How far each witness has been told, and what it answered. cosignatures: signature lines, '' where it gives none.
CREATE TABLE publications (
    program_id   uuid        NOT NULL,
    log          text        NOT NULL CHECK (log IN ('books', 'traffic')),
    witness      text        NOT NULL,
    size         bigint      NOT NULL,
    cosignatures text        NOT NULL,
    published_at timestamptz NOT NULL,
    PRIMARY KEY (program_id, log, witness, size)
);

-- One row an affiliate and a period's version in which it had new entries: the tree over all its entries up to that
-- cut. size: entries; root: over their leaf hashes; roots: of the complete subtrees, to go on from.
CREATE TABLE affiliate_trees (
    program_id   uuid   NOT NULL,
    affiliate_id text   NOT NULL,
    position     bigint NOT NULL,
    size         bigint NOT NULL CHECK (size >= 1),
    root         bytea  NOT NULL CHECK (length(root) = 32),
    roots        bytea  NOT NULL,
    PRIMARY KEY (program_id, affiliate_id, position)
);

GRANT SELECT, INSERT ON tiles, checkpoints, sealing_keys, retired_keys, publications, affiliate_trees TO ledger_app;

CREATE TRIGGER tiles_append_only BEFORE UPDATE OR DELETE ON tiles
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER checkpoints_append_only BEFORE UPDATE OR DELETE ON checkpoints
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER sealing_keys_append_only BEFORE UPDATE OR DELETE ON sealing_keys
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER retired_keys_append_only BEFORE UPDATE OR DELETE ON retired_keys
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER publications_append_only BEFORE UPDATE OR DELETE ON publications
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER tiles_keep BEFORE TRUNCATE ON tiles
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER checkpoints_keep BEFORE TRUNCATE ON checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER sealing_keys_keep BEFORE TRUNCATE ON sealing_keys
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER retired_keys_keep BEFORE TRUNCATE ON retired_keys
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

ALTER TABLE tiles ENABLE ALWAYS TRIGGER tiles_append_only;
ALTER TABLE tiles ENABLE ALWAYS TRIGGER tiles_keep;
ALTER TABLE checkpoints ENABLE ALWAYS TRIGGER checkpoints_append_only;
ALTER TABLE checkpoints ENABLE ALWAYS TRIGGER checkpoints_keep;
ALTER TABLE sealing_keys ENABLE ALWAYS TRIGGER sealing_keys_append_only;
ALTER TABLE sealing_keys ENABLE ALWAYS TRIGGER sealing_keys_keep;
ALTER TABLE retired_keys ENABLE ALWAYS TRIGGER retired_keys_append_only;
ALTER TABLE retired_keys ENABLE ALWAYS TRIGGER retired_keys_keep;
ALTER TABLE publications ENABLE ALWAYS TRIGGER publications_append_only;
