-- The history of jobs. Instants come from the client.

-- name: end_lost_runs
-- Runs of a job that nobody is running any more; the caller holds the fence and runs none of them.
UPDATE job_runs SET finished_at = %(now)s, outcome = 'lost'
 WHERE program_id = %(program_id)s AND job = %(job)s AND outcome IS NULL

-- name: select_last_attempt
-- The last attempt at a due time.
SELECT attempt, outcome, finished_at FROM job_runs
 WHERE program_id = %(program_id)s AND job = %(job)s AND due_at = %(due_at)s
 ORDER BY attempt DESC LIMIT 1

-- name: select_due_before
-- The due time for which a job ran before this one.
SELECT due_at FROM job_runs
 WHERE program_id = %(program_id)s AND job = %(job)s AND due_at < %(due_at)s
 ORDER BY due_at DESC LIMIT 1

-- name: end_run
-- An attempt has ended.
UPDATE job_runs SET finished_at = %(now)s, outcome = %(outcome)s, detail = %(detail)s
 WHERE program_id = %(program_id)s AND job = %(job)s AND due_at = %(due_at)s AND attempt = %(attempt)s
   AND outcome IS NULL

-- name: select_page
-- Attempts of all jobs, newest due time first, behind a place.
SELECT job, due_at, attempt, worker, fence, started_at, finished_at, outcome, detail FROM job_runs
 WHERE program_id = %(program_id)s AND (due_at, job, attempt) < (%(due_at)s, %(after_job)s, %(attempt)s)
 ORDER BY due_at DESC, job DESC, attempt DESC LIMIT %(limit)s

-- name: select_page_of_job
-- Attempts of one job, newest due time first, behind a place.
SELECT job, due_at, attempt, worker, fence, started_at, finished_at, outcome, detail FROM job_runs
 WHERE program_id = %(program_id)s AND job = %(job)s AND (due_at, attempt) < (%(due_at)s, %(attempt)s)
 ORDER BY due_at DESC, attempt DESC LIMIT %(limit)s
