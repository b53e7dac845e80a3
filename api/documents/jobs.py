"""The history of jobs, as the OpenAPI document describes it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct


class JobRunDocument(Struct):
    """An attempt at a job. due_at: the due time that it was for; fence: of the program, which rises when another worker
    takes over; detail: what the job counted, or the class of its error. lost: its worker died or was replaced."""

    job: str
    due_at: datetime
    attempt: int
    worker: str
    fence: int
    started_at: datetime
    finished_at: datetime | None
    outcome: Literal["running", "done", "failed", "stopped", "lost"]
    detail: dict[str, Any]


class JobRuns(Struct):
    """A page of the history of jobs."""

    items: list[JobRunDocument]
    next: str | None
