-- The schema that the migrations in this folder add up to, written by `python -m ledger.store.schema`.
-- Read it; never apply or edit it. tests/test_migrations.py proves the sum.

SELECT pg_catalog.set_config('search_path', '', true);
SET LOCAL check_function_bodies = false;

CREATE SCHEMA reader;

CREATE SCHEMA vault;

CREATE FUNCTION public.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE FUNCTION public.refuse_change_of_ended_run() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF OLD.outcome IS NOT NULL THEN
        RAISE EXCEPTION 'run % of job % has ended', OLD.attempt, OLD.job USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION public.refuse_delete_of_live_line() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF OLD.generation >= (SELECT generation FROM public.log_heads
                           WHERE program_id = OLD.program_id AND log = 'books') THEN
        RAISE EXCEPTION 'journal is append-only: DELETE of a live line refused' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN OLD;
END $$;

CREATE FUNCTION public.refuse_lower_fence() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NEW.fence <= OLD.fence THEN
        RAISE EXCEPTION 'a fence only rises' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION public.refuse_second_revocation() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF OLD.revoked_at IS NOT NULL THEN
        RAISE EXCEPTION 'key % is revoked for good', OLD.key_id USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;

CREATE TABLE public.affiliate_trees (
    program_id uuid NOT NULL,
    affiliate_id text NOT NULL,
    "position" bigint NOT NULL,
    size bigint NOT NULL,
    root bytea NOT NULL,
    roots bytea NOT NULL,
    CONSTRAINT affiliate_trees_root_check CHECK ((length(root) = 32)),
    CONSTRAINT affiliate_trees_size_check CHECK ((size >= 1))
);

CREATE TABLE public.api_keys (
    program_id uuid NOT NULL,
    key_id text NOT NULL,
    role text NOT NULL,
    holder text NOT NULL,
    holder_kind text NOT NULL,
    affiliate_id text NOT NULL,
    secret_hmac bytea NOT NULL,
    issued_by text NOT NULL,
    issued_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    revoked_at timestamp with time zone,
    CONSTRAINT api_keys_check CHECK (((role = 'affiliate'::text) = (affiliate_id <> ''::text))),
    CONSTRAINT api_keys_check1 CHECK ((issued_by <> holder)),
    CONSTRAINT api_keys_holder_kind_check CHECK ((holder_kind = ANY (ARRAY['person'::text, 'system'::text]))),
    CONSTRAINT api_keys_role_check CHECK ((role = ANY (ARRAY['admin'::text, 'ingest'::text, 'finance_maker'::text, 'finance_checker'::text, 'auditor'::text, 'affiliate'::text]))),
    CONSTRAINT api_keys_secret_hmac_check CHECK ((length(secret_hmac) = 32))
);

CREATE TABLE public.balances (
    program_id uuid NOT NULL,
    generation integer NOT NULL,
    account text NOT NULL,
    currency text NOT NULL,
    affiliate_id text NOT NULL,
    amount bigint NOT NULL,
    "position" bigint NOT NULL,
    CONSTRAINT balances_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text))
)
WITH (fillfactor='70');

CREATE TABLE public.bank_lines (
    program_id uuid NOT NULL,
    line_id text NOT NULL,
    booked_on date NOT NULL,
    amount bigint NOT NULL,
    charges bigint NOT NULL,
    currency text NOT NULL,
    end_to_end_id text NOT NULL,
    outcome text NOT NULL,
    payout_id text NOT NULL,
    "position" bigint NOT NULL,
    CONSTRAINT bank_lines_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text))
);

CREATE TABLE public.book_events (
    program_id uuid NOT NULL,
    "position" bigint NOT NULL,
    originator_id uuid NOT NULL,
    originator_version bigint NOT NULL,
    topic text NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    key_id text NOT NULL,
    request_id text NOT NULL,
    cause text NOT NULL,
    state text NOT NULL,
    leaf_hash bytea NOT NULL,
    CONSTRAINT book_events_leaf_hash_check CHECK ((length(leaf_hash) = 32)),
    CONSTRAINT book_events_position_check CHECK (("position" >= 1))
);

CREATE TABLE public.carried_lines (
    program_id uuid NOT NULL,
    period text NOT NULL,
    version integer NOT NULL,
    "position" bigint NOT NULL,
    line_no smallint NOT NULL
);

CREATE TABLE public.checkpoints (
    program_id uuid NOT NULL,
    log text NOT NULL,
    size bigint NOT NULL,
    root bytea NOT NULL,
    note text NOT NULL,
    sealed_at timestamp with time zone NOT NULL,
    CONSTRAINT checkpoints_log_check CHECK ((log = ANY (ARRAY['books'::text, 'traffic'::text]))),
    CONSTRAINT checkpoints_root_check CHECK ((length(root) = 32)),
    CONSTRAINT checkpoints_size_check CHECK ((size >= 1))
);

CREATE TABLE public.conversions (
    program_id uuid NOT NULL,
    order_id text NOT NULL,
    originator_id uuid NOT NULL,
    status text NOT NULL,
    affiliate_id text NOT NULL,
    offer_id text NOT NULL,
    currency text NOT NULL,
    amount bigint NOT NULL,
    commission bigint NOT NULL,
    reversed_amount bigint NOT NULL,
    reversed_commission bigint NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    due_at timestamp with time zone,
    "position" bigint NOT NULL,
    share_no smallint NOT NULL,
    level smallint NOT NULL,
    commission_currency text NOT NULL,
    recorded_position bigint,
    customer_id text,
    event_id text,
    channel text,
    CONSTRAINT conversions_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'held'::text, 'approved'::text, 'rejected'::text, 'reversed'::text, 'unattributed'::text, 'waiting'::text])))
)
WITH (fillfactor='80');

CREATE TABLE public.directory (
    program_id uuid NOT NULL,
    kind text NOT NULL,
    record_id text NOT NULL,
    originator_id uuid NOT NULL,
    status text NOT NULL,
    type text NOT NULL,
    affiliate_id text NOT NULL,
    "position" bigint NOT NULL
);

CREATE TABLE public.followers (
    program_id uuid NOT NULL,
    follower text NOT NULL,
    "position" bigint NOT NULL
);

CREATE TABLE public.import_files (
    program_id uuid NOT NULL,
    import_id uuid NOT NULL,
    file_name text NOT NULL,
    offer_id text NOT NULL,
    currency text NOT NULL,
    enrol boolean NOT NULL,
    state text NOT NULL,
    matched_at timestamp with time zone NOT NULL,
    totals text,
    CONSTRAINT import_files_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text)),
    CONSTRAINT import_files_state_check CHECK ((state = ANY (ARRAY['matched'::text, 'recorded'::text])))
);

CREATE TABLE public.import_invoices (
    program_id uuid NOT NULL,
    import_id uuid NOT NULL,
    invoice text NOT NULL,
    standing text NOT NULL,
    first_line bigint NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    amount bigint NOT NULL,
    digest bytea NOT NULL,
    CONSTRAINT import_invoices_digest_check CHECK ((length(digest) = 32)),
    CONSTRAINT import_invoices_standing_check CHECK ((standing = ANY (ARRAY['new'::text, 'again'::text, 'changed'::text])))
);

CREATE TABLE public.import_lines (
    program_id uuid NOT NULL,
    import_id uuid NOT NULL,
    line_no bigint NOT NULL,
    invoice text NOT NULL,
    kind text NOT NULL,
    sku text NOT NULL,
    customer_id text,
    quantity bigint NOT NULL,
    price numeric NOT NULL,
    amount bigint NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    affiliate_id text NOT NULL,
    fact text,
    CONSTRAINT import_lines_kind_check CHECK ((kind = ANY (ARRAY['sale'::text, 'refund'::text, 'neither'::text])))
);

CREATE TABLE public.import_matches (
    program_id uuid NOT NULL,
    refund_invoice text NOT NULL,
    refund_ordinal integer NOT NULL,
    part_no integer NOT NULL,
    order_id text NOT NULL,
    order_line_no bigint NOT NULL,
    quantity bigint NOT NULL,
    amount bigint NOT NULL,
    CONSTRAINT import_matches_amount_check CHECK ((amount >= 0)),
    CONSTRAINT import_matches_quantity_check CHECK ((quantity > 0))
);

CREATE TABLE public.import_reversals (
    program_id uuid NOT NULL,
    refund_invoice text NOT NULL,
    order_id text NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    amount bigint NOT NULL,
    CONSTRAINT import_reversals_amount_check CHECK ((amount > 0))
);

CREATE TABLE public.import_turns (
    program_id uuid NOT NULL,
    taken_at timestamp with time zone NOT NULL
);

CREATE TABLE public.job_leases (
    program_id uuid NOT NULL,
    fence bigint NOT NULL,
    holder text NOT NULL,
    taken_at timestamp with time zone NOT NULL,
    CONSTRAINT job_leases_fence_check CHECK ((fence > 0))
);

CREATE TABLE public.job_runs (
    program_id uuid NOT NULL,
    job text NOT NULL,
    due_at timestamp with time zone NOT NULL,
    attempt integer NOT NULL,
    worker text NOT NULL,
    fence bigint NOT NULL,
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    outcome text,
    detail text NOT NULL,
    CONSTRAINT job_runs_attempt_check CHECK ((attempt > 0)),
    CONSTRAINT job_runs_check CHECK (((outcome IS NULL) = (finished_at IS NULL))),
    CONSTRAINT job_runs_outcome_check CHECK ((outcome = ANY (ARRAY['done'::text, 'failed'::text, 'stopped'::text, 'lost'::text])))
);

CREATE TABLE public.journal (
    program_id uuid NOT NULL,
    generation integer NOT NULL,
    "position" bigint NOT NULL,
    line_no smallint NOT NULL,
    debit text NOT NULL,
    credit text NOT NULL,
    amount bigint NOT NULL,
    currency text NOT NULL,
    effective_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    affiliate_id text NOT NULL,
    debit_balance bigint NOT NULL,
    credit_balance bigint NOT NULL,
    CONSTRAINT journal_amount_check CHECK ((amount > 0)),
    CONSTRAINT journal_check CHECK ((debit <> credit)),
    CONSTRAINT journal_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text)),
    CONSTRAINT journal_line_no_check CHECK ((line_no >= 1))
);

CREATE TABLE public.log_heads (
    program_id uuid NOT NULL,
    log text NOT NULL,
    next_position bigint NOT NULL,
    last_recorded_at timestamp with time zone NOT NULL,
    master_position bigint NOT NULL,
    generation integer NOT NULL,
    CONSTRAINT log_heads_generation_check CHECK ((generation >= 1)),
    CONSTRAINT log_heads_log_check CHECK ((log = ANY (ARRAY['books'::text, 'traffic'::text]))),
    CONSTRAINT log_heads_next_position_check CHECK ((next_position >= 1))
)
WITH (fillfactor='50');

CREATE TABLE public.payout_runs (
    program_id uuid NOT NULL,
    run_id text NOT NULL,
    period text NOT NULL,
    currency text NOT NULL,
    method text NOT NULL,
    attempt integer NOT NULL,
    status text NOT NULL,
    cut_position bigint NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    "position" bigint NOT NULL,
    CONSTRAINT payout_runs_status_check CHECK ((status = ANY (ARRAY['begun'::text, 'nothing_to_pay'::text, 'proposed'::text, 'approved'::text, 'rejected'::text, 'initiating'::text, 'initiated'::text])))
);

CREATE TABLE public.payouts (
    program_id uuid NOT NULL,
    payout_id text NOT NULL,
    run_id text NOT NULL,
    affiliate_id text NOT NULL,
    currency text NOT NULL,
    method text NOT NULL,
    method_version integer NOT NULL,
    fingerprint text NOT NULL,
    status text NOT NULL,
    amount bigint NOT NULL,
    owed_amount bigint NOT NULL,
    vat_amount bigint NOT NULL,
    withholding_amount bigint NOT NULL,
    fee_amount bigint NOT NULL,
    invoice_number text NOT NULL,
    reason text NOT NULL,
    initiated_at timestamp with time zone,
    initiated_position bigint,
    ended_at timestamp with time zone,
    bank_line_id text NOT NULL,
    "position" bigint NOT NULL,
    CONSTRAINT payouts_amount_check CHECK ((amount > 0)),
    CONSTRAINT payouts_check CHECK ((owed_amount >= amount)),
    CONSTRAINT payouts_check1 CHECK (((withholding_amount >= 0) AND (withholding_amount <= amount))),
    CONSTRAINT payouts_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text)),
    CONSTRAINT payouts_fee_amount_check CHECK ((fee_amount >= 0)),
    CONSTRAINT payouts_status_check CHECK ((status = ANY (ARRAY['proposed'::text, 'excluded'::text, 'initiated'::text, 'unknown'::text, 'settled'::text, 'failed'::text, 'returned'::text]))),
    CONSTRAINT payouts_vat_amount_check CHECK ((vat_amount >= 0))
)
WITH (fillfactor='70');

CREATE TABLE public.periods (
    program_id uuid NOT NULL,
    period text NOT NULL,
    version integer NOT NULL,
    starts_at timestamp with time zone,
    ends_at timestamp with time zone NOT NULL,
    "position" bigint NOT NULL,
    previous_period text NOT NULL,
    previous_version integer NOT NULL,
    previous_position bigint NOT NULL,
    status text NOT NULL,
    statement_count bigint NOT NULL,
    line_count bigint NOT NULL,
    closed_at timestamp with time zone NOT NULL,
    CONSTRAINT periods_status_check CHECK ((status = ANY (ARRAY['closing'::text, 'closed'::text]))),
    CONSTRAINT periods_version_check CHECK ((version >= 1))
);

CREATE TABLE public.plan_counters (
    program_id uuid NOT NULL,
    offer_id text NOT NULL,
    affiliate_id text NOT NULL,
    period text NOT NULL,
    currency text NOT NULL,
    conversions bigint NOT NULL,
    revenue bigint NOT NULL,
    commission bigint NOT NULL,
    paid_conversions bigint NOT NULL,
    paid_clicks bigint NOT NULL,
    reversed_conversions bigint NOT NULL,
    reversed_revenue bigint NOT NULL,
    reversed_commission bigint NOT NULL,
    reversed_paid_conversions bigint NOT NULL,
    CONSTRAINT plan_counters_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text))
)
WITH (fillfactor='70');

CREATE TABLE public.programs (
    program_id uuid NOT NULL,
    program text NOT NULL,
    currency text NOT NULL,
    opened_at timestamp with time zone NOT NULL
);

CREATE TABLE public.publications (
    program_id uuid NOT NULL,
    log text NOT NULL,
    witness text NOT NULL,
    size bigint NOT NULL,
    cosignatures text NOT NULL,
    published_at timestamp with time zone NOT NULL,
    CONSTRAINT publications_log_check CHECK ((log = ANY (ARRAY['books'::text, 'traffic'::text])))
);

CREATE TABLE public.retired_keys (
    program_id uuid NOT NULL,
    log text NOT NULL,
    verifier_key text NOT NULL,
    last_size bigint NOT NULL,
    retired_at timestamp with time zone NOT NULL,
    CONSTRAINT retired_keys_log_check CHECK ((log = ANY (ARRAY['books'::text, 'traffic'::text])))
);

CREATE TABLE public.schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamp with time zone NOT NULL
);

CREATE TABLE public.sealing_keys (
    program_id uuid NOT NULL,
    log text NOT NULL,
    verifier_key text NOT NULL,
    first_size bigint NOT NULL,
    first_at timestamp with time zone NOT NULL,
    CONSTRAINT sealing_keys_log_check CHECK ((log = ANY (ARRAY['books'::text, 'traffic'::text])))
);

CREATE TABLE public.simulation_lines (
    program_id uuid NOT NULL,
    simulation_id text NOT NULL,
    line_no bigint NOT NULL,
    order_id text NOT NULL,
    affiliate_id text NOT NULL,
    level smallint NOT NULL,
    was bigint NOT NULL,
    would bigint NOT NULL,
    credited_amount bigint NOT NULL,
    currency text NOT NULL,
    reason text NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    matures_at timestamp with time zone NOT NULL,
    outcome text NOT NULL,
    CONSTRAINT simulation_lines_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text))
);

CREATE TABLE public.simulations (
    program_id uuid NOT NULL,
    simulation_id text NOT NULL,
    requested_by text NOT NULL,
    requested_at timestamp with time zone NOT NULL,
    request text NOT NULL,
    status text NOT NULL,
    progress bigint NOT NULL,
    as_of bigint,
    report text NOT NULL,
    line_count bigint NOT NULL,
    lines_hash text NOT NULL,
    failure text NOT NULL,
    changed_at timestamp with time zone NOT NULL,
    CONSTRAINT simulations_status_check CHECK ((status = ANY (ARRAY['queued'::text, 'running'::text, 'done'::text, 'failed'::text, 'proposed'::text, 'approved'::text, 'rejected'::text, 'applying'::text, 'applied'::text])))
);

CREATE TABLE public.statements (
    program_id uuid NOT NULL,
    affiliate_id text NOT NULL,
    period text NOT NULL,
    version integer NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    sections jsonb NOT NULL,
    line_count bigint NOT NULL,
    hash text NOT NULL,
    "position" bigint NOT NULL,
    CONSTRAINT statements_hash_check CHECK ((length(hash) = 64))
);

CREATE TABLE public.tiles (
    program_id uuid NOT NULL,
    log text NOT NULL,
    level smallint NOT NULL,
    tile_index bigint NOT NULL,
    hashes bytea NOT NULL,
    root bytea NOT NULL,
    CONSTRAINT tiles_hashes_check CHECK ((length(hashes) = 8192)),
    CONSTRAINT tiles_level_check CHECK ((level >= 0)),
    CONSTRAINT tiles_log_check CHECK ((log = ANY (ARRAY['books'::text, 'traffic'::text]))),
    CONSTRAINT tiles_root_check CHECK ((length(root) = 32)),
    CONSTRAINT tiles_tile_index_check CHECK ((tile_index >= 0))
);

CREATE TABLE public.touches (
    program_id uuid NOT NULL,
    person text NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    "position" bigint NOT NULL,
    originator_id uuid NOT NULL,
    kind text NOT NULL,
    offer_id text NOT NULL,
    affiliate_id text NOT NULL,
    channel text,
    duplicate boolean NOT NULL,
    CONSTRAINT touches_kind_check CHECK ((kind = ANY (ARRAY['click'::text, 'impression'::text])))
);

CREATE TABLE public.traffic_events (
    program_id uuid NOT NULL,
    "position" bigint NOT NULL,
    originator_id uuid NOT NULL,
    originator_version bigint NOT NULL,
    topic text NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    key_id text NOT NULL,
    request_id text NOT NULL,
    cause text NOT NULL,
    state text NOT NULL,
    leaf_hash bytea NOT NULL,
    CONSTRAINT traffic_events_leaf_hash_check CHECK ((length(leaf_hash) = 32)),
    CONSTRAINT traffic_events_position_check CHECK (("position" >= 1))
);

CREATE VIEW reader.balances WITH (security_barrier='true') AS
 SELECT b.program_id,
    b.account,
    b.currency,
    b.affiliate_id,
    b.amount,
    b."position"
   FROM (public.balances b
     JOIN public.log_heads h ON (((h.program_id = b.program_id) AND (h.log = 'books'::text) AND (h.generation = b.generation))))
  WHERE ((b.program_id = (NULLIF(current_setting('app.program_id'::text, true), ''::text))::uuid) AND (COALESCE(NULLIF(current_setting('app.affiliate_id'::text, true), ''::text), b.affiliate_id) = b.affiliate_id));

CREATE VIEW reader.conversions WITH (security_barrier='true') AS
 SELECT program_id,
    order_id,
    status,
    affiliate_id,
    offer_id,
    currency,
    amount,
    commission,
    reversed_amount,
    reversed_commission,
    occurred_at,
    due_at,
    "position",
    level,
    commission_currency
   FROM public.conversions c
  WHERE ((program_id = (NULLIF(current_setting('app.program_id'::text, true), ''::text))::uuid) AND (COALESCE(NULLIF(current_setting('app.affiliate_id'::text, true), ''::text), affiliate_id) = affiliate_id));

CREATE VIEW reader.journal WITH (security_barrier='true') AS
 SELECT j.program_id,
    j."position",
    j.line_no,
    j.debit,
    j.credit,
    j.amount,
    j.currency,
    j.effective_at,
    j.recorded_at,
    j.affiliate_id
   FROM (public.journal j
     JOIN public.log_heads h ON (((h.program_id = j.program_id) AND (h.log = 'books'::text) AND (h.generation = j.generation))))
  WHERE ((j.program_id = (NULLIF(current_setting('app.program_id'::text, true), ''::text))::uuid) AND (COALESCE(NULLIF(current_setting('app.affiliate_id'::text, true), ''::text), j.affiliate_id) = j.affiliate_id));

CREATE TABLE vault.subject_keys (
    program_id uuid NOT NULL,
    subject text NOT NULL,
    wrapped_key bytea NOT NULL,
    created_at timestamp with time zone NOT NULL
);

ALTER TABLE ONLY public.affiliate_trees
    ADD CONSTRAINT affiliate_trees_pkey PRIMARY KEY (program_id, affiliate_id, "position");

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (program_id, key_id);

ALTER TABLE ONLY public.balances
    ADD CONSTRAINT balances_pkey PRIMARY KEY (program_id, generation, account, currency);

ALTER TABLE ONLY public.bank_lines
    ADD CONSTRAINT bank_lines_pkey PRIMARY KEY (program_id, line_id);

ALTER TABLE ONLY public.book_events
    ADD CONSTRAINT book_events_pkey PRIMARY KEY (program_id, originator_id, originator_version);

ALTER TABLE ONLY public.book_events
    ADD CONSTRAINT book_events_program_id_position_key UNIQUE (program_id, "position");

ALTER TABLE ONLY public.carried_lines
    ADD CONSTRAINT carried_lines_pkey PRIMARY KEY (program_id, period, version, "position", line_no);

ALTER TABLE ONLY public.checkpoints
    ADD CONSTRAINT checkpoints_pkey PRIMARY KEY (program_id, log, size);

ALTER TABLE ONLY public.conversions
    ADD CONSTRAINT conversions_pkey PRIMARY KEY (program_id, originator_id, share_no);

ALTER TABLE ONLY public.directory
    ADD CONSTRAINT directory_pkey PRIMARY KEY (program_id, kind, record_id);

ALTER TABLE ONLY public.followers
    ADD CONSTRAINT followers_pkey PRIMARY KEY (program_id, follower);

ALTER TABLE ONLY public.import_files
    ADD CONSTRAINT import_files_pkey PRIMARY KEY (program_id, import_id);

ALTER TABLE ONLY public.import_invoices
    ADD CONSTRAINT import_invoices_pkey PRIMARY KEY (program_id, import_id, invoice);

ALTER TABLE ONLY public.import_lines
    ADD CONSTRAINT import_lines_pkey PRIMARY KEY (program_id, import_id, invoice, line_no);

ALTER TABLE ONLY public.import_matches
    ADD CONSTRAINT import_matches_pkey PRIMARY KEY (program_id, refund_invoice, refund_ordinal, part_no);

ALTER TABLE ONLY public.import_reversals
    ADD CONSTRAINT import_reversals_pkey PRIMARY KEY (program_id, refund_invoice, order_id);

ALTER TABLE ONLY public.import_turns
    ADD CONSTRAINT import_turns_pkey PRIMARY KEY (program_id);

ALTER TABLE ONLY public.job_leases
    ADD CONSTRAINT job_leases_pkey PRIMARY KEY (program_id);

ALTER TABLE ONLY public.job_runs
    ADD CONSTRAINT job_runs_pkey PRIMARY KEY (program_id, job, due_at, attempt);

ALTER TABLE ONLY public.journal
    ADD CONSTRAINT journal_pkey PRIMARY KEY (program_id, generation, "position", line_no);

ALTER TABLE ONLY public.log_heads
    ADD CONSTRAINT log_heads_pkey PRIMARY KEY (program_id, log);

ALTER TABLE ONLY public.payout_runs
    ADD CONSTRAINT payout_runs_pkey PRIMARY KEY (program_id, run_id);

ALTER TABLE ONLY public.payouts
    ADD CONSTRAINT payouts_pkey PRIMARY KEY (program_id, payout_id);

ALTER TABLE ONLY public.periods
    ADD CONSTRAINT periods_pkey PRIMARY KEY (program_id, period, version);

ALTER TABLE ONLY public.plan_counters
    ADD CONSTRAINT plan_counters_pkey PRIMARY KEY (program_id, offer_id, affiliate_id, period, currency);

ALTER TABLE ONLY public.programs
    ADD CONSTRAINT programs_pkey PRIMARY KEY (program_id);

ALTER TABLE ONLY public.publications
    ADD CONSTRAINT publications_pkey PRIMARY KEY (program_id, log, witness, size);

ALTER TABLE ONLY public.retired_keys
    ADD CONSTRAINT retired_keys_pkey PRIMARY KEY (program_id, log, verifier_key, last_size);

ALTER TABLE ONLY public.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY public.sealing_keys
    ADD CONSTRAINT sealing_keys_pkey PRIMARY KEY (program_id, log, verifier_key);

ALTER TABLE ONLY public.simulation_lines
    ADD CONSTRAINT simulation_lines_pkey PRIMARY KEY (program_id, simulation_id, line_no);

ALTER TABLE ONLY public.simulations
    ADD CONSTRAINT simulations_pkey PRIMARY KEY (program_id, simulation_id);

ALTER TABLE ONLY public.statements
    ADD CONSTRAINT statements_pkey PRIMARY KEY (program_id, affiliate_id, period, version);

ALTER TABLE ONLY public.tiles
    ADD CONSTRAINT tiles_pkey PRIMARY KEY (program_id, log, level, tile_index);

ALTER TABLE ONLY public.touches
    ADD CONSTRAINT touches_pkey PRIMARY KEY (program_id, person, offer_id, kind, occurred_at, "position");

ALTER TABLE ONLY public.traffic_events
    ADD CONSTRAINT traffic_events_pkey PRIMARY KEY (program_id, originator_id, originator_version);

ALTER TABLE ONLY public.traffic_events
    ADD CONSTRAINT traffic_events_program_id_position_key UNIQUE (program_id, "position");

ALTER TABLE ONLY vault.subject_keys
    ADD CONSTRAINT subject_keys_pkey PRIMARY KEY (program_id, subject);

CREATE INDEX balances_by_affiliate ON public.balances USING btree (program_id, generation, affiliate_id);

CREATE INDEX bank_lines_by_payout ON public.bank_lines USING btree (program_id, payout_id) WHERE (payout_id <> ''::text);

CREATE INDEX book_events_by_affiliate ON public.book_events USING btree (program_id, split_part(split_part(state, '"affiliate_id":"'::text, 2), '"'::text, 1), "position") WHERE (topic <> ALL (ARRAY['ConversionRecorded'::text, 'ConversionUnattributed'::text, 'ExceptionRaised'::text]));

CREATE INDEX book_events_decisions ON public.book_events USING btree (program_id, "position") WHERE (topic = ANY (ARRAY['AdjustmentPosted'::text, 'AdjustmentRejected'::text, 'DisputeAccepted'::text, 'DisputeRejected'::text, 'ErasureRejected'::text, 'PayoutMethodApproved'::text, 'PayoutMethodRejected'::text, 'PayoutRunApproved'::text, 'PayoutRunRejected'::text, 'SimulationApproved'::text, 'SimulationRejected'::text, 'SubjectErased'::text, 'TaxRulesPublished'::text, 'TaxRulesRejected'::text, 'TermsPublished'::text, 'TermsRejected'::text]));

CREATE INDEX conversions_by_affiliate ON public.conversions USING btree (program_id, offer_id, affiliate_id, occurred_at);

CREATE INDEX conversions_by_customer ON public.conversions USING btree (program_id, customer_id, offer_id, occurred_at, recorded_position) WHERE ((customer_id IS NOT NULL) AND (share_no = 1));

CREATE INDEX conversions_due ON public.conversions USING btree (program_id, status, due_at) WHERE (status = ANY (ARRAY['pending'::text, 'waiting'::text]));

CREATE INDEX conversions_held ON public.conversions USING btree (program_id, affiliate_id) WHERE (status = 'held'::text);

CREATE INDEX directory_by_affiliate ON public.directory USING btree (program_id, affiliate_id, kind, record_id) WHERE (affiliate_id <> ''::text);

CREATE UNIQUE INDEX import_invoices_new ON public.import_invoices USING btree (program_id, invoice) WHERE (standing = 'new'::text);

CREATE INDEX import_lines_by_customer ON public.import_lines USING btree (program_id, customer_id, sku) WHERE ((kind = 'sale'::text) AND (customer_id IS NOT NULL));

CREATE INDEX import_matches_by_order ON public.import_matches USING btree (program_id, order_id, order_line_no);

CREATE INDEX job_runs_by_due ON public.job_runs USING btree (program_id, due_at, job, attempt);

CREATE INDEX job_runs_open ON public.job_runs USING btree (program_id, job) WHERE (outcome IS NULL);

CREATE INDEX journal_by_credit ON public.journal USING btree (program_id, generation, credit, currency, "position", line_no);

CREATE INDEX journal_by_debit ON public.journal USING btree (program_id, generation, debit, currency, "position", line_no);

CREATE INDEX notices_queued ON public.directory USING btree (program_id, record_id) WHERE ((kind = 'notice'::text) AND (status = 'queued'::text));

CREATE INDEX payouts_by_affiliate ON public.payouts USING btree (program_id, affiliate_id, currency, "position");

CREATE INDEX payouts_by_run ON public.payouts USING btree (program_id, run_id, payout_id);

CREATE INDEX payouts_open ON public.payouts USING btree (program_id, status) WHERE (status = ANY (ARRAY['proposed'::text, 'initiated'::text, 'unknown'::text]));

CREATE INDEX simulation_lines_left ON public.simulation_lines USING btree (program_id, simulation_id, line_no) WHERE (outcome = ''::text);

CREATE INDEX simulations_to_do ON public.simulations USING btree (program_id, requested_at, simulation_id) WHERE (status = ANY (ARRAY['queued'::text, 'running'::text, 'applying'::text]));

CREATE INDEX statements_by_period ON public.statements USING btree (program_id, period, version, affiliate_id);

CREATE TRIGGER api_keys_revoked_for_good BEFORE UPDATE ON public.api_keys FOR EACH ROW EXECUTE FUNCTION public.refuse_second_revocation();

CREATE TRIGGER book_events_append_only BEFORE DELETE OR UPDATE ON public.book_events FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

ALTER TABLE public.book_events ENABLE ALWAYS TRIGGER book_events_append_only;

CREATE TRIGGER book_events_keep BEFORE TRUNCATE ON public.book_events FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

ALTER TABLE public.book_events ENABLE ALWAYS TRIGGER book_events_keep;

CREATE TRIGGER checkpoints_append_only BEFORE DELETE OR UPDATE ON public.checkpoints FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

ALTER TABLE public.checkpoints ENABLE ALWAYS TRIGGER checkpoints_append_only;

CREATE TRIGGER checkpoints_keep BEFORE TRUNCATE ON public.checkpoints FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

ALTER TABLE public.checkpoints ENABLE ALWAYS TRIGGER checkpoints_keep;

CREATE TRIGGER job_leases_only_rise BEFORE UPDATE ON public.job_leases FOR EACH ROW EXECUTE FUNCTION public.refuse_lower_fence();

CREATE TRIGGER job_runs_end_once BEFORE UPDATE ON public.job_runs FOR EACH ROW EXECUTE FUNCTION public.refuse_change_of_ended_run();

CREATE TRIGGER journal_append_only BEFORE UPDATE ON public.journal FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

ALTER TABLE public.journal ENABLE ALWAYS TRIGGER journal_append_only;

CREATE TRIGGER journal_keep BEFORE TRUNCATE ON public.journal FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

ALTER TABLE public.journal ENABLE ALWAYS TRIGGER journal_keep;

CREATE TRIGGER journal_live_lines BEFORE DELETE ON public.journal FOR EACH ROW EXECUTE FUNCTION public.refuse_delete_of_live_line();

ALTER TABLE public.journal ENABLE ALWAYS TRIGGER journal_live_lines;

CREATE TRIGGER publications_append_only BEFORE DELETE OR UPDATE ON public.publications FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

ALTER TABLE public.publications ENABLE ALWAYS TRIGGER publications_append_only;

CREATE TRIGGER retired_keys_append_only BEFORE DELETE OR UPDATE ON public.retired_keys FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

ALTER TABLE public.retired_keys ENABLE ALWAYS TRIGGER retired_keys_append_only;

CREATE TRIGGER retired_keys_keep BEFORE TRUNCATE ON public.retired_keys FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

ALTER TABLE public.retired_keys ENABLE ALWAYS TRIGGER retired_keys_keep;

CREATE TRIGGER sealing_keys_append_only BEFORE DELETE OR UPDATE ON public.sealing_keys FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

ALTER TABLE public.sealing_keys ENABLE ALWAYS TRIGGER sealing_keys_append_only;

CREATE TRIGGER sealing_keys_keep BEFORE TRUNCATE ON public.sealing_keys FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

ALTER TABLE public.sealing_keys ENABLE ALWAYS TRIGGER sealing_keys_keep;

CREATE TRIGGER tiles_append_only BEFORE DELETE OR UPDATE ON public.tiles FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

ALTER TABLE public.tiles ENABLE ALWAYS TRIGGER tiles_append_only;

CREATE TRIGGER tiles_keep BEFORE TRUNCATE ON public.tiles FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

ALTER TABLE public.tiles ENABLE ALWAYS TRIGGER tiles_keep;

CREATE TRIGGER traffic_events_append_only BEFORE DELETE OR UPDATE ON public.traffic_events FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

ALTER TABLE public.traffic_events ENABLE ALWAYS TRIGGER traffic_events_append_only;

CREATE TRIGGER traffic_events_keep BEFORE TRUNCATE ON public.traffic_events FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

ALTER TABLE public.traffic_events ENABLE ALWAYS TRIGGER traffic_events_keep;

GRANT USAGE ON SCHEMA reader TO ledger_reader;

GRANT USAGE ON SCHEMA vault TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.affiliate_trees TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.api_keys TO ledger_app;

GRANT UPDATE(revoked_at) ON TABLE public.api_keys TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.balances TO ledger_app;

GRANT UPDATE(amount) ON TABLE public.balances TO ledger_app;

GRANT UPDATE("position") ON TABLE public.balances TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.bank_lines TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.book_events TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.carried_lines TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.checkpoints TO ledger_app;

GRANT SELECT,INSERT,UPDATE ON TABLE public.conversions TO ledger_app;

GRANT SELECT,INSERT,UPDATE ON TABLE public.directory TO ledger_app;

GRANT SELECT,INSERT,UPDATE ON TABLE public.followers TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.import_files TO ledger_app;

GRANT UPDATE(state) ON TABLE public.import_files TO ledger_app;

GRANT UPDATE(totals) ON TABLE public.import_files TO ledger_app;

GRANT SELECT,INSERT,DELETE ON TABLE public.import_invoices TO ledger_app;

GRANT SELECT,INSERT,DELETE ON TABLE public.import_lines TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.import_matches TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.import_reversals TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.import_turns TO ledger_app;

GRANT UPDATE(taken_at) ON TABLE public.import_turns TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.job_leases TO ledger_app;

GRANT UPDATE(fence) ON TABLE public.job_leases TO ledger_app;

GRANT UPDATE(holder) ON TABLE public.job_leases TO ledger_app;

GRANT UPDATE(taken_at) ON TABLE public.job_leases TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.job_runs TO ledger_app;

GRANT UPDATE(finished_at) ON TABLE public.job_runs TO ledger_app;

GRANT UPDATE(outcome) ON TABLE public.job_runs TO ledger_app;

GRANT UPDATE(detail) ON TABLE public.job_runs TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.journal TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.log_heads TO ledger_app;

GRANT UPDATE(next_position) ON TABLE public.log_heads TO ledger_app;

GRANT UPDATE(last_recorded_at) ON TABLE public.log_heads TO ledger_app;

GRANT UPDATE(master_position) ON TABLE public.log_heads TO ledger_app;

GRANT UPDATE(generation) ON TABLE public.log_heads TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.payout_runs TO ledger_app;

GRANT UPDATE(status) ON TABLE public.payout_runs TO ledger_app;

GRANT UPDATE("position") ON TABLE public.payout_runs TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.payouts TO ledger_app;

GRANT UPDATE(status) ON TABLE public.payouts TO ledger_app;

GRANT UPDATE(fee_amount) ON TABLE public.payouts TO ledger_app;

GRANT UPDATE(invoice_number) ON TABLE public.payouts TO ledger_app;

GRANT UPDATE(reason) ON TABLE public.payouts TO ledger_app;

GRANT UPDATE(initiated_at) ON TABLE public.payouts TO ledger_app;

GRANT UPDATE(initiated_position) ON TABLE public.payouts TO ledger_app;

GRANT UPDATE(ended_at) ON TABLE public.payouts TO ledger_app;

GRANT UPDATE(bank_line_id) ON TABLE public.payouts TO ledger_app;

GRANT UPDATE("position") ON TABLE public.payouts TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.periods TO ledger_app;

GRANT UPDATE(status) ON TABLE public.periods TO ledger_app;

GRANT UPDATE(statement_count) ON TABLE public.periods TO ledger_app;

GRANT UPDATE(line_count) ON TABLE public.periods TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.plan_counters TO ledger_app;

GRANT UPDATE(conversions) ON TABLE public.plan_counters TO ledger_app;

GRANT UPDATE(revenue) ON TABLE public.plan_counters TO ledger_app;

GRANT UPDATE(commission) ON TABLE public.plan_counters TO ledger_app;

GRANT UPDATE(paid_conversions) ON TABLE public.plan_counters TO ledger_app;

GRANT UPDATE(paid_clicks) ON TABLE public.plan_counters TO ledger_app;

GRANT UPDATE(reversed_conversions) ON TABLE public.plan_counters TO ledger_app;

GRANT UPDATE(reversed_revenue) ON TABLE public.plan_counters TO ledger_app;

GRANT UPDATE(reversed_commission) ON TABLE public.plan_counters TO ledger_app;

GRANT UPDATE(reversed_paid_conversions) ON TABLE public.plan_counters TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.programs TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.publications TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.retired_keys TO ledger_app;

GRANT SELECT ON TABLE public.schema_migrations TO ledger_app;
GRANT SELECT ON TABLE public.schema_migrations TO ledger_reader;

GRANT SELECT,INSERT ON TABLE public.sealing_keys TO ledger_app;

GRANT SELECT,INSERT,DELETE ON TABLE public.simulation_lines TO ledger_app;

GRANT UPDATE(outcome) ON TABLE public.simulation_lines TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.simulations TO ledger_app;

GRANT UPDATE(status) ON TABLE public.simulations TO ledger_app;

GRANT UPDATE(progress) ON TABLE public.simulations TO ledger_app;

GRANT UPDATE(as_of) ON TABLE public.simulations TO ledger_app;

GRANT UPDATE(report) ON TABLE public.simulations TO ledger_app;

GRANT UPDATE(line_count) ON TABLE public.simulations TO ledger_app;

GRANT UPDATE(lines_hash) ON TABLE public.simulations TO ledger_app;

GRANT UPDATE(failure) ON TABLE public.simulations TO ledger_app;

GRANT UPDATE(changed_at) ON TABLE public.simulations TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.statements TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.tiles TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.touches TO ledger_app;

GRANT SELECT,INSERT ON TABLE public.traffic_events TO ledger_app;

GRANT SELECT ON TABLE reader.balances TO ledger_reader;

GRANT SELECT ON TABLE reader.conversions TO ledger_reader;

GRANT SELECT ON TABLE reader.journal TO ledger_reader;

GRANT SELECT,INSERT,DELETE ON TABLE vault.subject_keys TO ledger_app;
