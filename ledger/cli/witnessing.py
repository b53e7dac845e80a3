"""The `witnesses` verb: who outside knows how far the logs have come."""

from __future__ import annotations

import click

from ledger.audit import publishing
from ledger.audit.witnesses import Cosigner, load_witnesses
from ledger.cli.common import json_option, print_json, print_table, program_option
from ledger.service import open_service
from ledger.store.log import last_position


@click.command()
@program_option
@click.option("--tell", is_flag=True, help="Tell them the newest checkpoints first; the worker does so every minute.")
@json_option
def witnesses(program: str, tell: bool, as_json: bool) -> int:
    """List the witnesses and how far each has been told. Exit code 1 if one refuses, or could not be reached."""
    named = load_witnesses()
    with open_service() as service:
        with service.ledger.reading(program) as (cur, id_):
            last_position(cur, id_, "books")
        told = publishing.publish(service.ledger, program, named, service.ledger.clock) if tell else []
        with service.ledger.reading(program) as (cur, id_):
            known = {(one.witness, one.log): one for one in publishing.publications(cur, id_)}
            behind = {(witness.name, log) for witness, log in publishing.untold(cur, id_, named)}
    said = {(one.witness, one.log): one for one in told}
    places = sorted({*known, *behind})
    items = []
    for place in places:
        one, answer = known.get(place), said.get(place)
        items.append(
            {
                "witness": place[0],
                "log": place[1],
                "named": any(witness.name == place[0] for witness in named),
                "size": one.size if one else 0,
                "cosigned": bool(one and one.cosigned),
                "published_at": one.published_at if one else None,
                "behind": place in behind,
                "outcome": answer.outcome if answer else None,
                "reason": answer.reason if answer else None,
            }
        )
    if as_json:
        print_json({"items": items})
    elif not items:
        click.echo("no witness has been told" if named else "no witnesses: LEDGER_WITNESSES_FILE names none")
    else:
        cosigners = {witness.name for witness in named if isinstance(witness, Cosigner)}
        rows = [_row(item, item["cosigned"] or item["witness"] in cosigners) for item in items]
        print_table(("witness", "log", "events", "cosigned", "told at", "state"), rows, right=(2,))
    return 1 if any(one.outcome != "took" for one in told) else 0


def _row(item: dict[str, object], cosigns: object) -> tuple[str, ...]:
    at = item["published_at"]
    note = item["reason"] or ("behind" if item["behind"] else "up to date" if item["named"] else "no longer named")
    day = f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else "never"
    size = f"{item['size']:,}"
    cosigned = "-" if not cosigns else "yes" if item["cosigned"] else "no"
    return str(item["witness"]), str(item["log"]), size, cosigned, day, str(note)


COMMANDS = (witnesses,)
