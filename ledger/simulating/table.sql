-- Simulations that were asked for, and the lines of what they found.

-- name: insert_request
-- A simulation that waits, or one that was run already, unless there is one of this id.
INSERT INTO simulations (program_id, simulation_id, requested_by, requested_at, request, status, progress, as_of, report,
                         line_count, lines_hash, failure, changed_at)
VALUES (%(program_id)s, %(simulation_id)s, %(by)s, %(at)s, %(request)s, 'queued', 0, NULL, '', 0, '', '', %(at)s)
ON CONFLICT (program_id, simulation_id) DO NOTHING

-- name: select_one
-- One simulation.
SELECT simulation_id, requested_by, requested_at, request, status, progress, as_of, report, line_count, lines_hash,
       failure, changed_at
  FROM simulations WHERE program_id = %(program_id)s AND simulation_id = %(simulation_id)s

-- name: select_page
-- Simulations behind one, in the order of ids, without their reports.
SELECT simulation_id, requested_by, requested_at, request, status, progress, as_of, '', line_count, lines_hash,
       failure, changed_at
  FROM simulations WHERE program_id = %(program_id)s AND simulation_id > %(after)s ORDER BY simulation_id LIMIT %(limit)s

-- name: select_to_do
-- What the worker has to do: first what was approved and begun, then what was asked for, in the order of asking.
SELECT simulation_id, status, requested_at FROM simulations
 WHERE program_id = %(program_id)s AND status IN ('queued', 'running', 'applying')
 ORDER BY status <> 'applying', requested_at, simulation_id

-- name: count_waiting
-- How many the worker still has to run.
SELECT count(*) FROM simulations WHERE program_id = %(program_id)s AND status IN ('queued', 'running')

-- name: update_status
-- Where a simulation stands.
UPDATE simulations SET status = %(status)s, failure = %(failure)s, changed_at = %(at)s
 WHERE program_id = %(program_id)s AND simulation_id = %(simulation_id)s

-- name: update_progress
-- How far a run has come.
UPDATE simulations SET status = 'running', progress = %(progress)s, as_of = %(as_of)s, changed_at = %(at)s
 WHERE program_id = %(program_id)s AND simulation_id = %(simulation_id)s

-- name: update_done
-- What a run has found.
UPDATE simulations SET status = 'done', progress = %(as_of)s, as_of = %(as_of)s, report = %(report)s,
       line_count = %(line_count)s, lines_hash = %(lines_hash)s, failure = '', changed_at = %(at)s
 WHERE program_id = %(program_id)s AND simulation_id = %(simulation_id)s

-- name: delete_lines
-- Those of a run that died.
DELETE FROM simulation_lines WHERE program_id = %(program_id)s AND simulation_id = %(simulation_id)s

-- name: select_lines
-- Lines behind one, in order.
SELECT line_no, order_id, affiliate_id, level, was, would, credited_amount, currency, reason, occurred_at, matures_at
  FROM simulation_lines
 WHERE program_id = %(program_id)s AND simulation_id = %(simulation_id)s AND line_no > %(after)s
 ORDER BY line_no LIMIT %(limit)s

-- name: select_lines_left
-- Lines that no application has looked at yet, in order.
SELECT line_no, order_id, affiliate_id, level, was, would, credited_amount, currency, reason, occurred_at, matures_at
  FROM simulation_lines
 WHERE program_id = %(program_id)s AND simulation_id = %(simulation_id)s AND outcome = ''
 ORDER BY line_no LIMIT %(limit)s

-- name: update_outcomes
-- What became of some lines: of the orders that are named here why they were left, of the others that they were applied.
UPDATE simulation_lines SET outcome = coalesce(%(skipped)s::json ->> order_id, 'applied')
 WHERE program_id = %(program_id)s AND simulation_id = %(simulation_id)s
   AND line_no BETWEEN %(first)s AND %(last)s AND outcome = ''

-- name: select_tally
-- How many orders were applied, left as they are, and not looked at yet.
SELECT count(DISTINCT order_id) FILTER (WHERE outcome = 'applied'),
       count(DISTINCT order_id) FILTER (WHERE outcome NOT IN ('', 'applied')),
       count(DISTINCT order_id) FILTER (WHERE outcome = '')
  FROM simulation_lines WHERE program_id = %(program_id)s AND simulation_id = %(simulation_id)s

-- name: select_skipped
-- The first orders that were left as they are, and why.
SELECT DISTINCT order_id, outcome FROM simulation_lines
 WHERE program_id = %(program_id)s AND simulation_id = %(simulation_id)s AND outcome NOT IN ('', 'applied')
 ORDER BY order_id LIMIT %(limit)s
