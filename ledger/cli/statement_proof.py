"""The verb `proof statement`, and what `verify` says about the file that it writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ledger.audit import statement_proof
from ledger.audit.notes import InvalidNote, read_verifier_key
from ledger.audit.statement_proof import NotAProof, Verdict
from ledger.audit.statement_rebuilt import DoesNotHold
from ledger.audit.tree import TreeIncomplete
from ledger.cli.common import major, note, print_json, print_table, program_option
from ledger.cli.proving import proof
from ledger.presenting import StatementDiffers
from ledger.service import open_service
from ledger.statement_proofs import statement_proof as pieces_of
from ledger.store.durable import write_whole

HOLDS, DOES_NOT, UNREADABLE = 0, 1, 2  # what `verify` exits with
MOST_SAID = 2_000  # characters of a problem


@proof.command("statement")
@click.argument("affiliate")
@click.argument("period")
@program_option
@click.option("--version", type=click.IntRange(1), help="Which version; the newest unless said.")
@click.option("--to", "file", type=click.Path(dir_okay=False, path_type=Path), help="A file; standard output without.")
def proof_statement(affiliate: str, period: str, program: str, version: int | None, file: Path | None) -> None:
    """Write the proof of AFFILIATE's statement of PERIOD: one file that `ledger verify` checks offline.

    It shows that the statement is what the sealed log says, and that no entry was left out.
    """
    try:
        with open_service() as service:
            pieces = pieces_of(service.ledger, program, affiliate, period, version)
            proven = b"".join(pieces)
            statement_proof.verify(proven)  # nobody is handed a proof that does not hold
            if file is None:
                click.echo(proven, nl=False)
                return
            write_whole(file, proven)
    except (StatementDiffers, TreeIncomplete) as problem:
        raise click.ClickException(str(problem)) from None
    except DoesNotHold as problem:
        raise click.ClickException(f"the proof does not hold: {problem}; `ledger check` says what is wrong") from None
    note(f"{file}: {len(proven):,} bytes; `ledger verify {file}` checks it")


def escaped(text: str) -> str:
    """One line of text as a terminal may show it: whoever made the file chose its names, and a control character or
    a line feed in one could overwrite the verdict."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def verify_file(file: Path, keys: Sequence[str] = (), as_json: bool = False) -> int:
    """Say whether a statement's proof holds. keys: verifier keys that the reader trusts, of the operator, and of
    witnesses, which must all have signed. Returns HOLDS, also under a key that only the file names, which is said;
    DOES_NOT or UNREADABLE. Raises click.UsageError for a key that is none."""
    try:
        trusted = [read_verifier_key(key) for key in keys]
    except InvalidNote as problem:
        raise click.UsageError(f"--key: {problem}") from None
    try:
        verdict = statement_proof.verify(file.read_bytes(), trusted)
    except (NotAProof, OSError) as problem:
        return _say(file, UNREADABLE, "cannot be read", str(problem), as_json)
    except DoesNotHold as problem:
        return _say(file, DOES_NOT, "NO", str(problem), as_json)
    if as_json:
        print_json(_document(verdict))
    else:
        _tell(verdict)
    return HOLDS


def _say(file: Path, code: int, verdict: str, why: str, as_json: bool) -> int:
    if as_json:
        print_json({"holds": False, "readable": code != UNREADABLE, "problem": escaped(why[:MOST_SAID])})
    else:
        click.echo(escaped(f"{file}: {verdict}: {why[:MOST_SAID]}"), err=True)
    return code


def _document(verdict: Verdict) -> dict[str, object]:
    checkpoint = verdict.checkpoint
    return {
        "holds": True,
        "statement": verdict.head,
        "hash": verdict.hash,
        "line_count": verdict.line_count,
        "entry_count": verdict.entry_count,
        "recorded_position": verdict.recorded_position,
        "checkpoint": {"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.hex()},
        "key": str(verdict.key),
        "key_was_given": verdict.was_told,
        "cosigned_by": [key.name for key in verdict.witnesses],
    }


def _tell(verdict: Verdict) -> None:
    head, checkpoint = verdict.head, verdict.checkpoint
    late = sum(section["late_count"] for section in head["sections"])
    yes = "YES"
    if not verdict.was_told:
        yes = "YES, IF that key is theirs"
        _line(f"The checkpoint is signed by {verdict.key},")
        _line("BUT whose key that is, only the file itself says. Compare it with the operator's, known from elsewhere,")
        _line("or give that one: --key NAME+HASH+KEY")
    _line(
        f"{yes}: the statement of {head['affiliate_id']} for {head['period']}, version {head['version']}, is what the"
        f" sealed books of {head['program']} say. A later version may exist."
    )
    _line(
        f"Its {verdict.line_count:,} lines ({late:,} late) are those and no others that its entries make; all"
        f" {verdict.entry_count:,} entries of {head['affiliate_id']} that were recorded up to position"
        f" {verdict.recorded_position} are in the file."
    )
    rows = [
        (escaped(one["currency"]), bucket.replace("_", " "), *(major(one[e][bucket], one["currency"]) for e in _EDGES))
        for one in head["sections"]
        for bucket in one["opening"]
        if one["opening"][bucket] or one["closing"][bucket]
    ]
    print_table(("", "", *_EDGES), rows, right=(2, 3))
    _line(f"statement SHA-256 {verdict.hash}")
    _line(f"checkpoint {checkpoint.origin}, {checkpoint.size:,} events, root {checkpoint.root.hex()}")
    _line(f"signed by {verdict.key}")
    for witness in verdict.witnesses:
        _line(f"seen by the witness {witness.name}")


def _line(text: str) -> None:
    click.echo(escaped(text))


_EDGES = ("opening", "closing")


COMMANDS: tuple[click.Command, ...] = ()  # `proof statement` stands in the group `proof`
