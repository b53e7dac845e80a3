-- Jobs: what the worker runs by itself, once a program, job and due time. The advisory lock of the leading worker keeps
-- workers from working against each other; what keeps a stale one from doing harm is the fence.

-- One row a program: the fence rises whenever another worker takes over, and every commit of a job checks it.
CREATE TABLE job_leases (
    program_id uuid        NOT NULL,
    fence      bigint      NOT NULL CHECK (fence > 0),
    holder     text        NOT NULL,  -- the worker's name
    taken_at   timestamptz NOT NULL,
    PRIMARY KEY (program_id)
);

-- One row an attempt. due_at: the job's interval, counted in UTC, begins there; outcome: null while it runs, done,
-- failed (the job raised), stopped (the worker was told to stop), lost (the worker died or was replaced);
-- detail: JSON, what the job counted, or the class of its error.
CREATE TABLE job_runs (
    program_id  uuid        NOT NULL,
    job         text        NOT NULL,
    due_at      timestamptz NOT NULL,
    attempt     integer     NOT NULL CHECK (attempt > 0),
    worker      text        NOT NULL,
    fence       bigint      NOT NULL,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz,
    outcome     text        CHECK (outcome IN ('done', 'failed', 'stopped', 'lost')),
    detail      text        NOT NULL,
    PRIMARY KEY (program_id, job, due_at, attempt),
    CHECK ((outcome IS NULL) = (finished_at IS NULL))
);
CREATE INDEX job_runs_by_due ON job_runs (program_id, due_at, job, attempt);
CREATE INDEX job_runs_open ON job_runs (program_id, job) WHERE outcome IS NULL;

GRANT SELECT, INSERT, UPDATE (fence, holder, taken_at) ON job_leases TO ledger_app;
GRANT SELECT, INSERT, UPDATE (finished_at, outcome, detail) ON job_runs TO ledger_app;

-- History that auditors read: a run ends once.
CREATE FUNCTION refuse_change_of_ended_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.outcome IS NOT NULL THEN
        RAISE EXCEPTION 'run % of job % has ended', OLD.attempt, OLD.job USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER job_runs_end_once BEFORE UPDATE ON job_runs
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_ended_run();

-- A fence that fell would let a stale worker in again.
CREATE FUNCTION refuse_lower_fence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.fence <= OLD.fence THEN
        RAISE EXCEPTION 'a fence only rises' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER job_leases_only_rise BEFORE UPDATE ON job_leases
    FOR EACH ROW EXECUTE FUNCTION refuse_lower_fence();
