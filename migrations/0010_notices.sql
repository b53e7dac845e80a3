-- Which notices wait to be sent: few of many, and looked for every few minutes.
CREATE INDEX notices_queued ON directory (program_id, record_id) WHERE kind = 'notice' AND status = 'queued';
