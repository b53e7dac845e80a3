-- Which notices wait to be sent: few of many, and looked for every few minutes.
CREATE INDEX notices_queued ON directory (program_id, record_id) WHERE kind = 'notice' AND status = 'queued';

-- What concerns one affiliate: its notices, payout methods, disputes.
CREATE INDEX directory_by_affiliate ON directory (program_id, affiliate_id, kind, record_id) WHERE affiliate_id <> '';
