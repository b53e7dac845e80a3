-- Timelines: an affiliate's events in the order of the log, found in the log itself.
--
-- What stands behind the first "affiliate_id":" of a state is the event's own: states are compact JSON, and a quote
-- inside of a text is escaped, so no text can look like it. Left out are the three topics where another record's may
-- come first: a sale only names an affiliate, what it is credited with is in CommissionAccrued; an unattributed sale
-- lists who was tried; an exception holds what was sent. (JSON functions would be plainer, but fail for a state that
-- they cannot read, and an index must never keep an event out of the log.) A query names expression and condition
-- letter for letter.
CREATE INDEX book_events_by_affiliate ON book_events
       (program_id, split_part(split_part(state, '"affiliate_id":"', 2), '"', 1), position)
 WHERE topic NOT IN ('ConversionRecorded', 'ConversionUnattributed', 'ExceptionRaised');
