"""Verbs about commission plans in files: looking for mistakes, and the schema."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import msgspec

from ledger import plan_words
from ledger.cli import json_places
from ledger.cli.common import note, read_some
from ledger.cli.statement_proof import escaped
from ledger.domain.errors import Refusal
from ledger.domain.plans import plan, plan_check
from ledger.domain.plans.plan_shape import Mistake

_File = click.Path(exists=True, dir_okay=False, path_type=Path)
plan_option = click.option(
    "--plan", "plan_file", type=_File, metavar="FILE", help="Commission as a plan says: a JSON file (docs/plans.md)."
)


class PlanRefused(Refusal):
    """The file is no commission plan."""


def read_plan(file: Path, then: str = "nothing was published") -> dict[str, Any]:
    """The plan in a file. Raises PlanRefused once all of its mistakes have been told on stderr."""
    document, wrong = _look(file)
    for one in wrong:
        note(one)
    if wrong:
        raise PlanRefused(f"{file} is no commission plan; {then}")
    assert isinstance(document, dict)
    return document


def _look(file: Path) -> tuple[Any, list[str]]:
    """The document in a file, and a line for each of its mistakes: 'FILE:line:column: /pointer: message'."""
    located, wrong = located_in(file, "FILE")
    if located is None:
        return None, wrong
    return located.document, said_of(file, located, plan_check.mistakes(located.document))


def located_in(file: Path, option: str) -> tuple[json_places.Located | None, list[str]]:
    """The JSON in a file; or what keeps it from being read, with its place. Raises InvalidInput naming the option."""
    raw = read_some(option, file, plan_check.TEXT_MAX)
    if len(raw) > plan_check.TEXT_MAX:
        return None, [f"{file}:1:1: must be at most {plan_check.TEXT_MAX:,} bytes"]
    try:
        return json_places.read(raw.decode("utf-8-sig")), []
    except json.JSONDecodeError as problem:
        return None, [f"{file}:{problem.lineno}:{problem.colno}: must be JSON: {problem.msg}"]
    except UnicodeDecodeError:
        return None, [f"{file}:1:1: must be UTF-8"]
    except (RecursionError, ValueError):  # a number of thousands of digits
        return None, [f"{file}:1:1: must be JSON without endless numbers or nesting"]


def said_of(file: Path, located: json_places.Located, mistakes: Iterable[Mistake]) -> list[str]:
    """A line for each of a file's mistakes, in the order of the file."""
    found = [(at, f"{pointer}: is there twice") for pointer, at in located.twice]
    for mistake in mistakes:
        where = f"{mistake.pointer}: " if mistake.pointer else ""
        found.append((located.place(mistake.pointer), where + mistake.message))
    return [f"{file}:{at.line}:{at.column}: {escaped(said)}" for at, said in sorted(found)]


@click.group("plan")
def plan_() -> None:
    """Check and try commission plans; show what an offer's terms pay, their versions, and how two of them differ."""


@plan_.command("check")
@click.argument("file", type=_File)
def plan_check_(file: Path) -> int:
    """Look for mistakes in the plan in FILE (JSON): every one is printed as FILE:line:column: /pointer: message.

    Exit code 1 if there are any. Without any, what the plan pays is printed in words, to be read before it is
    published. Nothing is recorded, and no database is needed.
    """
    document, wrong = _look(file)
    for one in wrong:
        click.echo(one)
    if wrong:
        return 1
    click.echo(f"{file}: no mistakes; SHA-256 {plan.hash_of(document)}\n")
    click.echo("\n".join(plan_words.sentences(plan.read(document).plan)))
    return 0


@plan_.command("schema")
def plan_schema() -> None:
    """Print the JSON Schema of commission plans, for editors."""
    click.echo(msgspec.json.format(msgspec.json.encode(plan_check.schema())).decode())


COMMANDS = (plan_,)
