"""Verbs about the versions of an offer's terms: what one pays in words, all of them, and how two differ."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from ledger import reads, terms_history
from ledger.cli.common import json_option, print_json, print_table, program_option
from ledger.cli.plans import plan_
from ledger.cli.statement_proof import escaped
from ledger.domain.errors import NotFound
from ledger.service import open_service
from ledger.store.log import last_position
from ledger.terms_history import Version

_SHOWN_MOST = 200  # characters of a value that differs


def _versions(program: str, offer_id: str) -> list[Version]:
    """Raises NotFound."""
    with open_service() as service, reads.reading(service.ledger, program) as look:
        last_position(look.cur, look.program_id, "books")
        found = terms_history.versions(look, offer_id, service.ledger.clock())
    if found is None:
        raise NotFound(f"offer {offer_id} does not exist")
    return found


def _version(found: list[Version], offer_id: str, number: int) -> Version:
    for one in found:
        if one.terms.version == number:
            return one
    raise NotFound(f"offer {offer_id} has no version {number} of its terms")


def _said(one: Version) -> dict[str, Any]:
    who = {name: getattr(one, name) for name in Version.__struct_fields__ if name not in ("terms", "status")}
    terms = one.terms
    return {
        "terms_version": terms.version, "status": one.status, "effective_from": terms.effective_from,
        "hold_days": terms.hold_days, "window_days": terms.window_days, "plan_hash": terms.plan_hash,
    } | who  # fmt: skip


def _instant(at: datetime | None) -> str:
    if at is None:
        return ""
    at = at.astimezone(UTC)
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at.year > 1 else "the beginning"


@plan_.command("show")
@click.argument("offer_id", metavar="OFFER")
@program_option
@click.option("--version", type=click.IntRange(1), help="Of the terms. Default: those in force now.")
@json_option
def plan_show(offer_id: str, program: str, version: int | None, as_json: bool) -> None:
    """Show what the terms of OFFER pay, in words: since when, by which plan (its hash and document), or simply."""
    found = _versions(program, offer_id)
    if version is None:
        one = next((one for one in found if one.status == "in_force"), None)
        if one is None:
            raise NotFound(f"offer {offer_id} has no terms in force")
    else:
        one = _version(found, offer_id, version)
    terms, words = one.terms, one.words()
    if as_json:
        print_json({"offer_id": offer_id, **_said(one), "words": words, "plan": terms.document})
        return
    status = "" if one.status == "in_force" else f", {one.status.replace('_', ' ')}"
    since = f"from {_instant(terms.effective_from)} on"
    click.echo(f"offer {offer_id}, terms version {terms.version}{status}: {since}")
    hash_ = f", SHA-256 {terms.plan_hash}" if terms.plan_hash is not None else ""
    click.echo(f"hold days {terms.hold_days}, window days {terms.window_days}{hash_}\n")
    click.echo("\n".join(words))
    if terms.document is not None:
        click.echo("\n" + msgspec.json.format(msgspec.json.encode(terms.document)).decode())


@plan_.command("history")
@click.argument("offer_id", metavar="OFFER")
@program_option
@json_option
def plan_history(offer_id: str, program: str, as_json: bool) -> None:
    """List every version of the terms of OFFER: from when to when it prices sales, its status, and who brought it
    about."""
    found = _versions(program, offer_id)
    if as_json:
        print_json([_said(one) | {"words": one.words(), "plan": one.terms.document} for one in found])
        return
    rows = []
    for one in found:
        terms = one.terms
        pays = f"plan {terms.plan_hash[:12]}" if terms.plan_hash is not None else one.words()[-1]
        rows.append(
            (str(terms.version), one.status.replace("_", " "), _instant(terms.effective_from),
             _instant(one.effective_until) or "-", pays, _who(one))
        )  # fmt: skip
    print_table(("terms", "status", "sales from", "until", "pays", "by"), rows, right=(0,))


def _who(one: Version) -> str:
    """Who did what, and when."""
    if one.proposed_by is None:
        return f"published by {one.published_by}, {_instant(one.published_at)}"
    said = f"proposed by {one.proposed_by}, {_instant(one.proposed_at)}"
    if one.decided_by is None:
        return said
    decision = "rejected" if one.status == "rejected" else "approved"
    return f"{said}; {decision} by {one.decided_by}, {_instant(one.decided_at)}"


@plan_.command("diff")
@click.argument("offer_id", metavar="OFFER")
@click.argument("before", type=click.IntRange(1), metavar="VERSION")
@click.argument("after", type=click.IntRange(1), metavar="VERSION")
@program_option
@json_option
def plan_diff(offer_id: str, before: int, after: int, program: str, as_json: bool) -> None:
    """Show how two versions of the terms of OFFER differ: /pointer: what it was -> what it is."""
    found = _versions(program, offer_id)
    documents = [msgspec.to_builtins(_version(found, offer_id, number).document()) for number in (before, after)]
    differences = terms_history.differences(*documents)
    if as_json:
        print_json(differences)
        return
    for one in differences:
        click.echo(escaped(f"{one.pointer}: {_shown(one.before)} -> {_shown(one.after)}"))
    if not differences:
        click.echo("they do not differ")


def _shown(value: Any) -> str:
    text = "nothing" if value is None else msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN_MOST else f"{text[:_SHOWN_MOST]}…"


COMMANDS: tuple[click.Command, ...] = ()  # they belong to `plan`
