"""Verbs about erasing persons, and what is personal in a month's clicks."""

from __future__ import annotations

from typing import Any

import click

from ledger import erasing, reads
from ledger.cli.common import json_option, meta, note, operator_option, print_json, print_table, program_option
from ledger.domain.erasure import GROUNDS, STATUSES, DecideErasure, ProposeErasure, key
from ledger.domain.event import Answer
from ledger.projections import decisions
from ledger.service import erased_subjects_file, open_service
from ledger.store.log import last_position

subject_argument = click.argument("subject", metavar="SUBJECT")
AT_ONCE = 500


def _done(answer: Answer, text: str) -> None:
    click.echo(text if answer.outcome == "recorded" else f"{text} (it was so already; nothing changed)")


@click.group()
def erase() -> None:
    """Destroy the key of personal data, for good: an affiliate's, or that of a month's clicks.

    SUBJECT is affiliate:ID or traffic:YYYY-MM. Whoever proposes it cannot approve it. Events, hashes, balances and
    statements stay as they are.
    """


@erase.command("propose")
@subject_argument
@program_option
@click.option("--ground", type=click.Choice(GROUNDS), required=True, help="Why: no free text, which would outlive it.")
@operator_option
def erase_propose(subject: str, program: str, ground: str, by: str | None) -> None:
    """Propose to erase SUBJECT. An affiliate must be closed, with nothing owed either way; a month must be over."""
    with open_service() as service:
        answer = erasing.propose(service.ledger, program, ProposeErasure(subject=subject, ground=ground), meta(by))
        with reads.reading(service.ledger, program) as look:
            found = look.record(key(subject))
    if found is not None and found.state.status == "erased":  # the same again answers what it answered first
        click.echo(f"{subject} is erased already; nothing changed")
        return
    _done(answer, f"the erasure of {subject} is proposed ({ground}); somebody else approves it")


def _decide(subject: str, program: str, by: str | None, approve: bool) -> Answer:
    with open_service() as service:
        command = DecideErasure(subject=subject, approve=approve)
        return erasing.decide(service.ledger, program, command, meta(by), erased_subjects_file())


@erase.command("approve")
@subject_argument
@program_option
@operator_option
def erase_approve(subject: str, program: str, by: str | None) -> None:
    """Erase SUBJECT, as a second person. There is no way back."""
    _done(_decide(subject, program, by, True), f"{subject} is erased")
    file = erased_subjects_file()
    if file is None:
        note("set LEDGER_KNOWN_POSITIONS_FILE or LEDGER_HOME: without it a restored backup brings the key back")
    else:
        note(f"noted in {file}, which a restore asks; older backups of the keys: see docs/erasure.md")


@erase.command("reject")
@subject_argument
@program_option
@operator_option
def erase_reject(subject: str, program: str, by: str | None) -> None:
    """Refuse to erase SUBJECT, as a second person."""
    _done(_decide(subject, program, by, False), f"the erasure of {subject} is rejected")


@erase.command("list")
@program_option
@click.option("--status", type=click.Choice(STATUSES), help="Only those of a status.")
@json_option
def erase_list(program: str, status: str | None, as_json: bool) -> None:
    """List erasures by subject: who proposed and who decided them."""
    rows: list[dict[str, Any]] = []
    with open_service() as service, reads.reading(service.ledger, program) as look:
        last_position(look.cur, look.program_id, "books")
        while found := look.records("erasure", rows[-1]["subject"] if rows else "", AT_ONCE, status):
            trails = decisions.of_records(look.cur, look.program_id, [key(one.record_id) for one in found])
            rows += [
                {"subject": one.record_id, "ground": one.state.ground, "status": one.state.status}
                | decisions.who(trails[key(one.record_id)])
                | {"position": one.position}
                for one in found
            ]
    if as_json:
        print_json(rows)
        return
    fields = ("subject", "ground", "status", "proposed_by", "decided_by")
    table = [
        (*(row[field] or "-" for field in fields), f"{row['decided_at']:%Y-%m-%d %H:%M}" if row["decided_at"] else "-")
        for row in rows
    ]
    print_table(("subject", "ground", "status", "proposed by", "decided by", "decided (UTC)"), table)


COMMANDS = (erase,)
