"""Verbs about tax as data: the dated rules that two people publish, and what each affiliate is for tax."""

from __future__ import annotations

import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import Struct

from ledger import reads
from ledger.cli.common import (
    json_option,
    meta,
    note,
    operator_option,
    print_json,
    print_table,
    program_option,
    read_some,
)
from ledger.domain import affiliate
from ledger.domain import tax as taxes
from ledger.domain.errors import InvalidInput, NotFound
from ledger.domain.tax import (
    DecideTaxRules,
    ProposeTaxRules,
    RecordTaxProfile,
    RulesVersion,
    TaxProfileState,
    TaxRule,
    TaxRulesState,
)
from ledger.projections import decisions
from ledger.service import open_service
from ledger.store.log import last_position

RULES_FILE_MAX = 1 << 20  # bytes
NUMBER_FILE_MAX = 1024  # bytes


class _Rule(Struct, forbid_unknown_fields=True):
    """A rule as a file has it: a misspelt field is an error, not a rule without it."""

    country: str
    tax_status: str
    vat_bps: int
    withholding_bps: int
    note: str = ""


class _RulesFile(Struct, forbid_unknown_fields=True):
    """A version of the rules as a file has it."""

    rules: list[_Rule]
    effective_from: datetime | None = None


def read_rules(file: Path) -> ProposeTaxRules:
    """The rules of a TOML or JSON file. Raises InvalidInput naming the field."""
    with file.open("rb") as opened:
        raw = opened.read(RULES_FILE_MAX + 1)
    if len(raw) > RULES_FILE_MAX:
        raise InvalidInput(file.name, f"is larger than {RULES_FILE_MAX:,} bytes")
    try:
        if file.suffix == ".json":
            found = msgspec.json.decode(raw, type=_RulesFile)
        else:
            found = msgspec.convert(tomllib.loads(raw.decode()), _RulesFile)
    except (msgspec.DecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise InvalidInput(file.name, f"{problem}; examples/tax-rules.toml shows what it may have") from None
    rules = [TaxRule(**msgspec.structs.asdict(rule)) for rule in found.rules]
    return ProposeTaxRules(rules=rules, effective_from=found.effective_from)


@click.group()
def tax() -> None:
    """Maintain tax rules and tax profiles. No rate is built in: without rules in force, payouts bear no tax."""


@tax.group("rules")
def rules() -> None:
    """Dated rules of VAT and withholding, published by two people."""


@rules.command("propose")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@program_option
@operator_option
def rules_propose(file: Path, program: str, by: str | None) -> None:
    """Propose the rules in FILE (TOML or JSON, as examples/tax-rules.toml), which replace those before as a whole."""
    command = read_rules(file)
    with open_service() as service:
        answer = service.ledger.execute(program, command, meta(by))
    version, again = answer.body["rules_version"], " already; nothing changed" if answer.outcome == "unchanged" else ""
    click.echo(f"version {version} of the tax rules, {len(command.rules)} rules, is {answer.body['status']}{again}")


def _deciding(name: str, approve: bool, help_: str) -> click.Command:
    @click.command(name, help=help_)
    @program_option
    @click.option("--version", type=click.IntRange(1), required=True, help="As `ledger tax rules show` has it.")
    @operator_option
    def verb(program: str, version: int, by: str | None) -> None:
        with open_service() as service:
            answer = service.ledger.execute(program, DecideTaxRules(rules_version=version, approve=approve), meta(by))
        again = " (it was so already; nothing changed)" if answer.outcome == "unchanged" else ""
        click.echo(f"version {version} of the tax rules is {answer.body['status']}{again}")

    return verb


rules.add_command(_deciding("approve", True, "Publish a proposed version, as another person than proposed it."))
rules.add_command(_deciding("reject", False, "Refuse a proposed version, as another person than proposed it."))


@rules.command("show")
@program_option
@json_option
def rules_show(program: str, as_json: bool) -> None:
    """Show every published version, and the one that waits for a second person."""
    with open_service() as service, reads.reading(service.ledger, program) as look:
        last_position(look.cur, look.program_id, "books")
        found = look.record(taxes.RULES_KEY)
        trails = decisions.of_records(look.cur, look.program_id, [taxes.RULES_KEY])[taxes.RULES_KEY]
        now = service.ledger.clock()
    state: TaxRulesState = found.state if found else TaxRulesState()
    versions = [one | decisions.who(trails, one["rules_version"]) for one in _versions(state, now)]
    if as_json:
        print_json(versions)
        return
    if not versions:
        click.echo("there are no tax rules: payouts bear no tax")
    for one in versions:
        starts = one["effective_from"]
        when = f"from {starts.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if starts else "from its approval"
        people = f"proposed by {one['proposed_by']}"
        if one["decided_by"]:
            people += f", approved by {one['decided_by']}"
        click.echo(f"version {one['rules_version']}: {one['status'].replace('_', ' ')}, {when}; {people}")
        table = [
            (rule.country, rule.tax_status, _percent(rule.vat_bps), _percent(rule.withholding_bps), rule.note)
            for rule in one["rules"]
        ]
        print_table(("country", "tax status", "VAT", "withholding", "note"), table, right=(2, 3))


def _versions(state: TaxRulesState, now: datetime) -> list[dict[str, Any]]:
    in_force = taxes.rules_at(state, now)
    found: list[dict[str, Any]] = [
        {
            "rules_version": one.rules_version,
            "status": "in_force" if one is in_force else "published",
            "effective_from": one.effective_from,
            "rules": one.rules,
        }
        for one in state.published
    ]
    if (proposed := state.proposed) is not None:
        fields = ("rules_version", "effective_from", "rules")
        found.append({field: getattr(proposed, field) for field in fields} | {"status": "proposed"})
    return found


def _percent(bps: int) -> str:
    return f"{bps // 100}.{bps % 100:02d} %"


@tax.command("profile")
@program_option
@click.option("--affiliate", "affiliate_id", required=True, metavar="ID", help="Whose.")
@click.option("--country", metavar="CODE", help="Where it is established or resident (ISO 3166, such as DE).")
@click.option("--status", "tax_status", metavar="STATUS", help="What the rules call it, such as business.")
@click.option(
    "--number-file",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    metavar="FILE",
    help="A file with its VAT id or TIN and nothing else (kept encrypted); - reads it from stdin.",
)
@operator_option
@json_option
def profile(
    program: str,
    affiliate_id: str,
    country: str | None,
    tax_status: str | None,
    number_file: Path | None,
    by: str | None,
    as_json: bool,
) -> None:
    """Say what an affiliate is for tax; payouts proposed from now on follow it. Without --country and --status it is
    only shown, its number masked."""
    if (country is None) != (tax_status is None):
        raise click.UsageError("--country and --status go together")
    if country is None and number_file is not None:
        raise click.UsageError("--number-file needs --country and --status")
    with open_service() as service:
        if country is not None and tax_status is not None:
            command = RecordTaxProfile(
                affiliate_id=affiliate_id, country=country, tax_status=tax_status, tax_number=_number(number_file)
            )
            service.ledger.execute(program, command, meta(by))
        with reads.reading(service.ledger, program) as look:
            shown = _profile(look, affiliate_id)
            rules_found = look.record(taxes.RULES_KEY)
            in_force = taxes.rules_at(rules_found.state if rules_found else None, service.ledger.clock())
    rule = taxes.rule_for(in_force, shown["country"], shown["tax_status"]) if in_force else None
    if in_force and all(one.tax_status != shown["tax_status"] for one in in_force.rules):
        note(
            f"no rule in force names the status {shown['tax_status']}; they name"
            f" {', '.join(sorted({one.tax_status for one in in_force.rules} - {taxes.ANY})) or 'none'}"
        )
    if as_json:
        print_json(shown | {"rule": rule})
        return
    number = shown["tax_number"] or ("erased" if shown["tax_number"] is None else "no tax number")
    click.echo(
        f"{affiliate_id}: {shown['country']}, {shown['tax_status']}, {number} (version {shown['profile_version']})"
    )
    click.echo(_what_follows(in_force, rule))


def _what_follows(in_force: RulesVersion | None, rule: TaxRule | None) -> str:
    if in_force is None:
        return "no tax rules are in force: payouts bear no tax"
    if rule is None:
        return f"no rule of version {in_force.rules_version} fits: no payout is made to it"
    return (
        f"falls under {rule.country}/{rule.tax_status} of version {in_force.rules_version}:"
        f" VAT {_percent(rule.vat_bps)}, withheld {_percent(rule.withholding_bps)}"
    )


def _number(file: Path | None) -> str:
    if file is None:
        return ""
    if str(file) == "-":
        raw = sys.stdin.buffer.read(NUMBER_FILE_MAX + 1)
    else:
        raw = read_some("--number-file", file, NUMBER_FILE_MAX)
    try:
        if len(raw) > NUMBER_FILE_MAX:
            raise ValueError
        return raw.decode().strip()
    except ValueError:
        raise InvalidInput("--number-file", "must hold a tax number and nothing else") from None


def _profile(look: reads.Look, affiliate_id: str) -> dict[str, Any]:
    last_position(look.cur, look.program_id, "books")
    stream = taxes.profile_key(affiliate_id)
    found = look.record(stream)
    if found is None:
        raise NotFound(f"affiliate {affiliate_id} has no tax profile")
    state: TaxProfileState = found.state
    field = taxes.tax_number_field(state.profile_version)
    number = look.unseal(affiliate.key(affiliate_id), stream, field, state.tax_number)
    fields = ("affiliate_id", "profile_version", "country", "tax_status")
    masked = (f"•••• {number[-2:]}" if len(number) >= 6 else "••••") if number else number
    return {name: getattr(state, name) for name in fields} | {"tax_number": masked}


COMMANDS = (tax,)
