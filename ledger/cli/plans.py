"""Verbs about commission plans: checking a file, the schema, and what an offer's plan pays."""

from __future__ import annotations

import json
from datetime import UTC
from pathlib import Path
from typing import Any

import click
import msgspec

from ledger import plan_words, reads
from ledger.cli import json_places
from ledger.cli.common import json_option, note, print_json, program_option, read_some
from ledger.cli.statement_proof import escaped
from ledger.domain import offer, plan, plan_check
from ledger.domain.errors import NotFound, Refusal
from ledger.domain.offer import OfferState, Terms, TermsPublished
from ledger.service import open_service
from ledger.store.log import last_position

_File = click.Path(exists=True, dir_okay=False, path_type=Path)
plan_option = click.option(
    "--plan", "plan_file", type=_File, metavar="FILE", help="Commission as a plan says: a JSON file (docs/plans.md)."
)


class PlanRefused(Refusal):
    """The file is no commission plan."""


def read_plan(file: Path) -> dict[str, Any]:
    """The plan in a file. Raises PlanRefused once all of its mistakes have been told on stderr."""
    document, wrong = _look(file)
    for one in wrong:
        note(one)
    if wrong:
        raise PlanRefused(f"{file} is no commission plan; nothing was published")
    assert isinstance(document, dict)
    return document


def _look(file: Path) -> tuple[Any, list[str]]:
    """The document in a file, and a line for each of its mistakes: 'FILE:line:column: /pointer: message'."""
    raw = read_some("FILE", file, plan_check.TEXT_MAX)
    if len(raw) > plan_check.TEXT_MAX:
        return None, [f"{file}:1:1: must be at most {plan_check.TEXT_MAX:,} bytes"]
    try:
        located = json_places.read(raw.decode("utf-8-sig"))
    except json.JSONDecodeError as problem:
        return None, [f"{file}:{problem.lineno}:{problem.colno}: must be JSON: {problem.msg}"]
    except UnicodeDecodeError:
        return None, [f"{file}:1:1: must be UTF-8"]
    except (RecursionError, ValueError):  # a number of thousands of digits
        return None, [f"{file}:1:1: must be JSON without endless numbers or nesting"]
    return located.document, [f"{file}:{at.line}:{at.column}: {escaped(said)}" for at, said in _said(located)]


def _said(located: json_places.Located) -> list[tuple[json_places.Place, str]]:
    """Every mistake, in the order of the file."""
    found = [(at, f"{pointer}: is there twice") for pointer, at in located.twice]
    for mistake in plan_check.mistakes(located.document):
        where = f"{mistake.pointer}: " if mistake.pointer else ""
        found.append((located.place(mistake.pointer), where + mistake.message))
    return sorted(found)


@click.group("plan")
def plan_() -> None:
    """Check commission plans, and show what an offer's plan pays."""


@plan_.command("check")
@click.argument("file", type=_File)
def plan_check_(file: Path) -> int:
    """Look for mistakes in the plan in FILE (JSON): every one is printed as FILE:line:column: /pointer: message.

    Exit code 1 if there are any. Nothing is recorded, and no database is needed.
    """
    document, wrong = _look(file)
    for one in wrong:
        click.echo(one)
    if wrong:
        return 1
    click.echo(f"{file}: no mistakes; SHA-256 {plan.hash_of(document)}")
    return 0


@plan_.command("schema")
def plan_schema() -> None:
    """Print the JSON Schema of commission plans, for editors."""
    click.echo(msgspec.json.format(msgspec.json.encode(plan_check.schema())).decode())


@plan_.command("show")
@click.argument("offer_id", metavar="OFFER")
@program_option
@click.option("--version", type=click.IntRange(1), help="Of the terms. Default: those in force now.")
@json_option
def plan_show(offer_id: str, program: str, version: int | None, as_json: bool) -> None:
    """Show the plan of OFFER: since when it pays, its hash, what it pays in words, and the document."""
    with open_service() as service, reads.reading(service.ledger, program) as look:
        last_position(look.cur, look.program_id, "books")
        found = look.record(offer.key(offer_id))
        now = service.ledger.clock()
    if found is None:
        raise NotFound(f"offer {offer_id} does not exist")
    state: OfferState = found.state
    terms = state.terms_at(now) if version is None else _version(state, version)
    if terms is None:
        which = "no terms in force" if version is None else f"no version {version} of its terms"
        raise NotFound(f"offer {offer_id} has {which}")
    proposed = isinstance(terms, TermsPublished)
    number = terms.terms_version if isinstance(terms, TermsPublished) else terms.version
    document = terms.plan if isinstance(terms, TermsPublished) else terms.document
    if document is None:
        raise NotFound(
            f"version {number} of the terms of offer {offer_id} has no plan (`ledger offers` shows what it pays)"
        )
    words = plan_words.sentences(plan.read(document).plan)
    said = {
        "offer_id": offer_id, "terms_version": number, "status": "proposed" if proposed else "in_force",
        "effective_from": terms.effective_from, "hold_days": terms.hold_days, "window_days": terms.window_days,
        "plan_hash": terms.plan_hash, "words": words, "plan": document,
    }  # fmt: skip
    if as_json:
        print_json(said)
        return
    starts = terms.effective_from.astimezone(UTC)
    since = f"from {starts:%Y-%m-%d %H:%M:%S} UTC on" if starts.year > 1 else "from the beginning on"
    click.echo(f"offer {offer_id}, terms version {number}{', proposed' if proposed else ''}: {since}")
    click.echo(f"hold days {terms.hold_days}, window days {terms.window_days}, SHA-256 {terms.plan_hash}\n")
    click.echo("\n".join(words) + "\n")
    click.echo(msgspec.json.format(msgspec.json.encode(document)).decode())


def _version(state: OfferState, version: int) -> Terms | TermsPublished | None:
    """In force, or proposed."""
    if state.proposed is not None and state.proposed.terms.terms_version == version:
        return state.proposed.terms
    return next((one for one in state.terms if one.version == version), None)


COMMANDS = (plan_,)
