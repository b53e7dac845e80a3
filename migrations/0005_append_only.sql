-- Append-only, whoever asks: the app role has no right to change the log or the journal, and these triggers
-- refuse the owner too, session_replication_role included. Plain PostgreSQL only: an engine that distributes
-- tables refuses triggers, and there the grants alone hold.

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;

-- A rebuild leaves the generation it replaced behind; the owner may clear that away, never a live line.
CREATE FUNCTION refuse_delete_of_live_line() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.generation >= (SELECT generation FROM public.log_heads
                           WHERE program_id = OLD.program_id AND log = 'books') THEN
        RAISE EXCEPTION 'journal is append-only: DELETE of a live line refused' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN OLD;
END $$;

-- A revocation is for good.
CREATE FUNCTION refuse_second_revocation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.revoked_at IS NOT NULL THEN
        RAISE EXCEPTION 'key % is revoked for good', OLD.key_id USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER api_keys_revoked_for_good BEFORE UPDATE ON api_keys
    FOR EACH ROW EXECUTE FUNCTION refuse_second_revocation();

CREATE TRIGGER book_events_append_only BEFORE UPDATE OR DELETE ON book_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER traffic_events_append_only BEFORE UPDATE OR DELETE ON traffic_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER journal_append_only BEFORE UPDATE ON journal
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER journal_live_lines BEFORE DELETE ON journal
    FOR EACH ROW EXECUTE FUNCTION refuse_delete_of_live_line();
CREATE TRIGGER book_events_keep BEFORE TRUNCATE ON book_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER traffic_events_keep BEFORE TRUNCATE ON traffic_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER journal_keep BEFORE TRUNCATE ON journal
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

ALTER TABLE book_events ENABLE ALWAYS TRIGGER book_events_append_only;
ALTER TABLE book_events ENABLE ALWAYS TRIGGER book_events_keep;
ALTER TABLE traffic_events ENABLE ALWAYS TRIGGER traffic_events_append_only;
ALTER TABLE traffic_events ENABLE ALWAYS TRIGGER traffic_events_keep;
ALTER TABLE journal ENABLE ALWAYS TRIGGER journal_append_only;
ALTER TABLE journal ENABLE ALWAYS TRIGGER journal_live_lines;
ALTER TABLE journal ENABLE ALWAYS TRIGGER journal_keep;
