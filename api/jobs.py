"""What ran by itself, for auditors: each attempt at each job, and what became of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import Response
from marshmallow import fields, validate

from api import answers, documents, schemas
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.errors import Problem
from ledger.jobs import EPOCH
from ledger.projections import job_runs
from ledger.projections.job_runs import JobRun, Place

blueprint = Blueprint("jobs", __name__, description="What the worker ran by itself.")
MICROSECOND = timedelta(microseconds=1)


class JobRunsPage(schemas.Page):
    """Attempts at jobs, of all or of one."""

    job = fields.String(load_default=None, validate=validate.Regexp(r"^[a-z][a-z0-9-]{0,39}\Z", error="Must be a job."))


@blueprint.route("/job-runs", methods=["GET"])
@operation("listJobRuns", {200: documents.JobRuns})
@blueprint.arguments(JobRunsPage, location="query")
def list_job_runs(caller: Caller, page: dict[str, Any]) -> Response:
    """Attempts at jobs, newest due time first."""
    with caller.ledger.reading(caller.program) as (cur, program_id):
        runs = job_runs.page(cur, program_id, _after(page), page["limit"] + 1, page["job"])
    items = [run._asdict() for run in runs]
    return answers.read(answers.page(items, page["limit"], lambda item: _cursor(JobRun(**item))))


def _cursor(run: JobRun) -> str:
    return answers.cursor((run.due_at - EPOCH) // MICROSECOND, run.job, run.attempt)


def _after(page: dict[str, Any]) -> Place:
    found = answers.place(page["after"], int, str, int)
    if found is None:
        return job_runs.NEWEST
    try:
        return Place(EPOCH + found[0] * MICROSECOND, found[1], min(found[2], 2**31 - 1))
    except OverflowError:
        errors = [{"parameter": "after", "detail": "must be the next of an earlier page"}]
        raise Problem(422, "The cursor is not one of ours.", code="invalid_input", errors=errors) from None
