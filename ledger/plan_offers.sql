-- Offers by what their plans say.

-- name: select_offers
-- Offers of which a version of the terms contains a word.
SELECT d.record_id FROM directory d
 CROSS JOIN LATERAL (
       SELECT FROM book_events
        WHERE program_id = %(program_id)s AND originator_id = d.originator_id AND topic = 'TermsPublished'
          AND strpos(state, %(word)s) > 0
        LIMIT 1) said
 WHERE d.program_id = %(program_id)s AND d.kind = 'offer'
 ORDER BY d.record_id
