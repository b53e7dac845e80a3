"""The `demo` verb: a simulated year, its books, a statement that a stranger can check, and keys to look at it all."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import click

from ledger import reads
from ledger.audit.sealing import seal
from ledger.audit.statement_proof import verify
from ledger.cli.common import Ticker, major, note, print_table
from ledger.cli.money import print_balances, print_trial_balance
from ledger.cli.operating import run_server, serve_options
from ledger.closing import close_period
from ledger.demo import YEAR, Year, simulate
from ledger.desk import Meta
from ledger.domain.access import ROLES
from ledger.explanations import explanation_of
from ledger.projections import books
from ledger.sealing_job import keys_for
from ledger.service import Service, home_of, open_service, sealed_checkpoints_file
from ledger.statement_proofs import statement_proof
from ledger.store.durable import write_whole
from ledger.store.log import TABLES, Rows

KEY_DAYS = 30
LINES_SHOWN = 30


@click.command()
@serve_options
@click.option("--no-serve", is_flag=True, help="End after printing, without serving the API.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Another seed makes another year.")
def demo(host: str, port: int, no_serve: bool, seed: int) -> None:
    """Simulate a program's year through the same commands that the API uses, show its books, and serve them."""
    with open_service() as service:
        with Ticker("") as ticker:
            year = simulate(service.pool, service.secrets, seed, ticker.say)
        whose = _show(service, year)
        _explain(service, year.program)
        _prove(service, year.program, whose)
        _show_keys(service, year.program, f"http://{host}:{port}", serving=not no_serve)
        if not no_serve:
            click.echo(f"\nServing on http://{host}:{port}/docs (stop with Ctrl-C)")
            run_server(host, port, workers=1)


def _heading(text: str) -> None:
    click.echo(f"\n{text}\n{'=' * len(text)}")


def _show(service: Service, year: Year) -> str:
    """Print the books. Returns whose entries were shown."""
    with service.ledger.reading(year.program) as (cur, id_):
        cur.execute(
            "SELECT status, count(*) FROM conversions WHERE program_id = %s AND share_no = 1"
            " GROUP BY status ORDER BY 2 DESC",
            (id_,),
        )
        statuses = cur.fetchall()
        balances = books.all_owed(books.account_balances(cur, id_, books.AsOf()))
        whose, entries = _story(cur, id_, sorted({row["affiliate_id"] for row in balances}))
        trial = books.trial_balance(cur, id_, books.AsOf())
    _heading(f"Program {year.program}: balances, those owed most")
    print_balances(balances, most=10)
    _heading(f"All entries of {whose}, and what they add up to")
    _print_entries(whose, entries)
    click.echo()
    print_balances([row for row in balances if row["affiliate_id"] == whose], total=False)
    _heading("Trial balance")
    print_trial_balance(_by_kind(trial))
    _heading("How fast")
    total = sum(count for _, count in statuses)
    click.echo(f"{total:,} conversions: " + ", ".join(f"{count:,} {status}" for status, count in statuses))
    if year.new:
        rate = year.events / year.seconds
        click.echo(
            f"{year.commands:,} commands made {year.events:,} events in {year.seconds:.1f} s ({rate:,.0f} a second),"
        )
        click.echo("each decided, hashed, booked and committed to disk")
    else:
        click.echo(f"this year was simulated before ({year.events:,} events) and stands as it was;")
        click.echo("--seed N makes another one")
    return whose


def _explain(service: Service, program: str) -> None:
    """Why a commission is what it is: of a sale that two affiliates brought, if there is one."""
    _heading("Why")
    with reads.reading(service.ledger, program) as look:
        look.cur.execute(
            "SELECT order_id FROM conversions WHERE program_id = %s AND status = 'approved' AND offer_id = 'shoes'"
            " ORDER BY share_no DESC, occurred_at DESC, order_id LIMIT 1",
            (look.program_id,),
        )
        (order_id,) = look.cur.fetchone() or ("",)
        found = explanation_of(look, order_id)
    for one in found.commissions if found is not None else []:
        click.echo(click.wrap_text(one.sentence, 100) + "\n")
    click.echo(f"All of it, figure by figure: python3 run.py explain {order_id} --program {program}")


def _prove(service: Service, program: str, whose: str) -> None:
    """Close the year's months, seal the logs, and let somebody who has only a file and a key check a statement."""
    _heading("Proof")
    home = home_of()
    keys = keys_for(service.ledger, program)
    if keys is None or home is None:
        click.echo("no signing key: set LEDGER_SIGNING_KEY, or LEDGER_HOME to a folder where one can be kept")
        return
    months = [f"{YEAR}-{month:02}" for month in range(1, 13)]
    with Ticker("months closed") as ticker:
        for done, month in enumerate(months, 1):
            for _ in close_period(service.ledger, program, month, Meta(actor="demo")):
                pass
            ticker.show(done, len(months))
    kept = sealed_checkpoints_file()
    for log in TABLES:
        signers = keys.signers(program, log)
        sealed = seal(service.ledger, program, log, signers, service.ledger.clock(), kept=kept).checkpoint
        if sealed is not None:
            click.echo(f"{log}: {sealed.size:,} events, sealed under root {sealed.root.hex()}")
    file, key = home / "statement-proof.json", keys.signers(program, "books")[0].key
    for month in reversed(months):  # the last one in which anything happened
        proof = b"".join(statement_proof(service.ledger, program, whose, month))
        verdict = verify(proof, [key])
        if verdict.line_count:
            break
    write_whole(file, proof)
    click.echo(
        f"\n{file}: {whose}'s statement of {month} ({verdict.line_count:,} lines), and the proof of all"
        f" {verdict.entry_count:,} entries since the beginning."
    )
    click.echo("It holds, and whoever has the file and the key can check that without us:")
    click.echo(f"  python3 run.py verify {shlex.quote(str(file))} --key {key}")


def _story(cur: Rows, id_: UUID, affiliates: list[str]) -> tuple[str, list[dict[str, Any]]]:
    """The affiliate to whom most kinds of things happened, of those whose entries fit on a screen."""
    best: tuple[str, list[dict[str, Any]]] = ("", [])
    for affiliate_id in affiliates:
        entries = books.entries(cur, id_, affiliate_id, (0, 0), LINES_SHOWN + 1)
        if len(entries) <= LINES_SHOWN and len({e["event"] for e in entries}) > len({e["event"] for e in best[1]}):
            best = (affiliate_id, entries)
    return best


def _print_entries(affiliate_id: str, entries: list[dict[str, Any]]) -> None:
    names = {f"liability:{affiliate_id}:{bucket}": bucket for bucket in books.BALANCE_FIELDS}
    table = []
    for entry in entries:
        to, from_ = (names.get(entry[side], entry[side].partition(":")[0]) for side in ("credit", "debit"))
        day, amount = f"{entry['effective_at']:%Y-%m-%d}", major(entry["amount"], entry["currency"])
        about = entry["reference"] or ""
        cells = (str(entry["position"]), day, entry["event"], about, f"{from_} -> {to}", amount, entry["currency"])
        table.append(cells)
    print_table(("position", "effective", "event", "about", "from -> to", "amount", ""), table, right=(0, 5))


def _by_kind(trial: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The affiliates' accounts added up by what they are; `ledger trial-balance` shows each."""
    sums: dict[tuple[str, str], int] = {}
    for row in trial:
        kind, _, rest = row["account"].partition(":")
        name = f"liability:*:{rest.rpartition(':')[2]}" if kind == "liability" else row["account"]
        sums[name, row["currency"]] = sums.get((name, row["currency"]), 0) + row["amount"]
    return [{"account": name, "currency": currency, "amount": sums[name, currency]} for name, currency in sorted(sums)]


def _show_keys(service: Service, program: str, url: str, serving: bool) -> None:
    """A key for everyone that the README tries, and what each may ask first."""
    with service.ledger.reading(program) as (cur, id_):
        balances = books.all_owed(books.account_balances(cur, id_, books.AsOf()))
    best = max(balances, key=lambda row: row["payable"])["affiliate_id"]
    at = f"{url}/v1/programs/{program}"
    asks = {
        "admin": ("ana.admin", f"{at}/affiliates?limit=3"),
        "finance_maker": ("maria.maker", f"{at}/trial-balance"),
        "finance_checker": ("omar.checker", f"{at}/adjustments?status=proposed"),
        "auditor": ("eva.auditor", f"{at}/trial-balance"),
        "affiliate": (best, f"{at}/affiliates/{best}/balance"),
    }
    _heading(f"Keys (each shown this once, good for {KEY_DAYS} days)")
    expires_at = datetime.now(UTC) + timedelta(days=KEY_DAYS)
    for role in (role for role in ROLES if role in asks):
        holder, address = asks[role]
        issued = service.ledger.issue_key(
            program,
            role=role,
            holder=holder,
            holder_kind="person",
            expires_at=expires_at,
            meta=Meta(actor="demo"),
            affiliate_id=best if role == "affiliate" else "",
        )
        click.echo(f"{role} ({holder}):\n  curl -H 'Authorization: Bearer {issued.token}' '{address}'")
    if not serving:
        note("\n`python3 run.py serve` answers them.")


COMMANDS = (demo,)
