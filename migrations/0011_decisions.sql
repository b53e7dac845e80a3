-- What a second person decided: few of many events, listed for auditors in the order of the log.
CREATE INDEX book_events_decisions ON book_events (program_id, position)
 WHERE topic IN ('AdjustmentPosted', 'AdjustmentRejected', 'DisputeAccepted', 'DisputeRejected',
                 'PayoutMethodApproved', 'PayoutMethodRejected', 'PayoutRunApproved', 'PayoutRunRejected',
                 'TaxRulesPublished', 'TaxRulesRejected', 'TermsPublished', 'TermsRejected');
