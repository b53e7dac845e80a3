-- What BI tools and affiliates' own queries may read: views that show one program, or one affiliate of it.
-- The reader names them with SET LOCAL app.program_id (and app.affiliate_id); unset shows nothing.
-- Views with a security barrier and not row-level security on the tables, because PostgreSQL refuses COPY into a
-- table under row-level security, and COPY is how large batches are written.

CREATE SCHEMA reader;
GRANT USAGE ON SCHEMA reader TO ledger_reader;

CREATE VIEW reader.journal WITH (security_barrier) AS
    SELECT j.program_id, j.position, j.line_no, j.debit, j.credit, j.amount, j.currency, j.effective_at,
           j.recorded_at, j.affiliate_id
      FROM public.journal j
      JOIN public.log_heads h ON h.program_id = j.program_id AND h.log = 'books' AND h.generation = j.generation
     WHERE j.program_id = nullif(current_setting('app.program_id', true), '')::uuid
       AND coalesce(nullif(current_setting('app.affiliate_id', true), ''), j.affiliate_id) = j.affiliate_id;

CREATE VIEW reader.balances WITH (security_barrier) AS
    SELECT b.program_id, b.account, b.currency, b.affiliate_id, b.amount, b.position
      FROM public.balances b
      JOIN public.log_heads h ON h.program_id = b.program_id AND h.log = 'books' AND h.generation = b.generation
     WHERE b.program_id = nullif(current_setting('app.program_id', true), '')::uuid
       AND coalesce(nullif(current_setting('app.affiliate_id', true), ''), b.affiliate_id) = b.affiliate_id;

CREATE VIEW reader.conversions WITH (security_barrier) AS
    SELECT c.program_id, c.order_id, c.status, c.affiliate_id, c.offer_id, c.currency, c.amount, c.commission,
           c.reversed_amount, c.reversed_commission, c.occurred_at, c.due_at, c.position
      FROM public.conversions c
     WHERE c.program_id = nullif(current_setting('app.program_id', true), '')::uuid
       AND coalesce(nullif(current_setting('app.affiliate_id', true), ''), c.affiliate_id) = c.affiliate_id;

GRANT SELECT ON reader.journal, reader.balances, reader.conversions TO ledger_reader;
