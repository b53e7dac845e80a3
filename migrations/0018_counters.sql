-- Counters: what tiers, caps and goals are decided by. Written in the append's transaction from the events alone.

-- An offer's conversions of one affiliate (or of all: '') in a period (2026-11-22, 2026-W47, 2026-11, 2026-Q4, 2026,
-- total) and a currency: what was counted, and what was taken back of it.
CREATE TABLE plan_counters (
    program_id                uuid   NOT NULL,
    offer_id                  text   NOT NULL,
    affiliate_id              text   NOT NULL,
    period                    text   NOT NULL,
    currency                  text   NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    conversions               bigint NOT NULL,
    revenue                   bigint NOT NULL,
    commission                bigint NOT NULL,
    paid_conversions          bigint NOT NULL,
    paid_clicks               bigint NOT NULL,
    reversed_conversions      bigint NOT NULL,
    reversed_revenue          bigint NOT NULL,
    reversed_commission       bigint NOT NULL,
    reversed_paid_conversions bigint NOT NULL,
    PRIMARY KEY (program_id, offer_id, affiliate_id, period, currency)
) WITH (fillfactor = 70);

GRANT SELECT, INSERT, UPDATE (conversions, revenue, commission, paid_conversions, paid_clicks, reversed_conversions,
    reversed_revenue, reversed_commission, reversed_paid_conversions) ON plan_counters TO ledger_app;
