-- Erasures. A row of vault.subject_keys whose wrapped_key is empty is what is left of a key that was destroyed: its
-- primary key keeps anybody from making another for the same subject.

-- What a second person decided: erasures belong to it.
DROP INDEX book_events_decisions;
CREATE INDEX book_events_decisions ON book_events (program_id, position)
 WHERE topic IN ('AdjustmentPosted', 'AdjustmentRejected', 'DisputeAccepted', 'DisputeRejected', 'ErasureRejected',
                 'PayoutMethodApproved', 'PayoutMethodRejected', 'PayoutRunApproved', 'PayoutRunRejected',
                 'SubjectErased', 'TaxRulesPublished', 'TaxRulesRejected', 'TermsPublished', 'TermsRejected');
