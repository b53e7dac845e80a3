"""Verbs about records: programs, offers, affiliates, access keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from ledger.cli.common import (
    Instant,
    json_option,
    meta,
    note,
    operator_option,
    print_json,
    print_table,
    program_option,
)
from ledger.cli.plans import plan_option, read_plan
from ledger.domain import money
from ledger.domain.access import ROLES
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate, GroupAffiliate, RecruitAffiliate
from ledger.domain.errors import SamePerson
from ledger.domain.event import Answer
from ledger.domain.ids import program_id
from ledger.domain.offer import DecideTerms, PublishOffer, PublishTerms
from ledger.domain.program import PAYOUT_METHOD_WAIT_HOURS, OpenProgram
from ledger.service import Service, open_service
from ledger.store.log import last_position


def _done(answer: Answer, text: str) -> None:
    click.echo(text if answer.outcome == "recorded" else f"{text} (it was so already; nothing changed)")


@click.group()
def program() -> None:
    """Open a program: one merchant's affiliate program, with books of its own."""


@program.command("open")
@click.argument("program", metavar="ID")
@click.option("--currency", required=True, metavar="CODE", help="Meant where no currency is named (ISO 4217).")
@click.option("--zone", default="UTC", show_default=True, help="The time zone of the program's days.")
@click.option(
    "--payout-method-wait-hours",
    type=click.IntRange(0, 720),
    default=PAYOUT_METHOD_WAIT_HOURS,
    show_default=True,
    help="Hours from the approval of a payout method until payouts go there.",
)
@operator_option
def open_(program: str, currency: str, zone: str, payout_method_wait_hours: int, by: str | None) -> None:
    """Open the books of program ID (1-64 of A-Z a-z 0-9 . _ -). Again with the same settings changes nothing."""
    command = OpenProgram(
        program=program, currency=currency, zone=zone, payout_method_wait_hours=payout_method_wait_hours
    )
    with open_service() as service:
        answer = service.ledger.open_program(command, meta(by))
    _done(answer, f"program {program} is open, in {currency}")


@click.group()
def offer() -> None:
    """Publish an offer and the terms on which it pays; decide terms that wait for a second person."""


@offer.command("publish")
@click.argument("offer_id", metavar="ID")
@program_option
@click.option("--percent", metavar="RATE", help="Commission as a percentage of the sale, such as 10 or 2.9.")
@click.option("--flat", metavar="AMOUNT", help="Commission as a fixed amount a sale, such as 5.00 (needs --currency).")
@click.option("--currency", metavar="CODE", help="The currency of --flat.")
@plan_option
@click.option("--hold-days", type=click.IntRange(0, 3650), required=True, help="Days until a commission matures.")
@click.option("--window-days", type=click.IntRange(0, 3650), required=True, help="Days a click counts for.")
@click.option(
    "--effective-from",
    type=Instant(),
    metavar="INSTANT",
    help="Sales from then on are priced by these terms. Default: all sales for the first terms, else from now on.",
)
@click.option("--name", "offer_name", default="", help="What people call it.")
@click.option("--landing-url", default="", metavar="URL", help="Where its tracking links lead.")
@operator_option
def offer_publish(
    offer_id: str,
    program: str,
    percent: str | None,
    flat: str | None,
    currency: str | None,
    plan_file: Path | None,
    hold_days: int,
    window_days: int,
    effective_from: datetime | None,
    offer_name: str,
    landing_url: str,
    by: str | None,
) -> None:
    """Publish offer ID, or a new version of its terms. Terms that reach back behind now, after the first, wait for a
    second person."""
    if [percent, flat, plan_file].count(None) != 2:
        raise click.UsageError("give one of --percent, --flat and --plan")
    if (flat is None) != (currency is None):
        raise click.UsageError("--flat needs --currency, and --currency goes with --flat only")
    terms = PublishTerms(
        offer_id=offer_id,
        hold_days=hold_days,
        window_days=window_days,
        rate_bps=money.rate_bps("--percent", percent) if percent is not None else None,
        amount=money.minor_units("--flat", flat, currency) if flat is not None and currency is not None else None,
        currency=currency,
        effective_from=effective_from,
        plan=read_plan(plan_file) if plan_file is not None else None,
    )
    naming = PublishOffer(offer_id=offer_id, offer_name=offer_name, landing_url=landing_url)
    with open_service() as service:
        who = meta(by)
        # New terms alone must not take away the name and the page that an earlier version gave the offer.
        if offer_name or landing_url or not _is_there(service, program, offer_id):
            service.ledger.execute(program, naming, who)
        answer = service.ledger.execute(program, terms, who)
    version = answer.body["terms_version"]
    if answer.body["status"] == "waiting":
        note(
            "these terms reach back behind now: a second person has to decide them, with"
            f" `ledger offer approve {offer_id} {version}` or `ledger offer reject {offer_id} {version}`"
        )
    _done(answer, _of_terms(answer))


def _of_terms(answer: Answer) -> str:
    body = answer.body
    return f"offer {body['offer_id']}: terms version {body['terms_version']} {body['status'].replace('_', ' ')}"


@offer.command("approve")
@click.argument("offer_id", metavar="ID")
@click.argument("version", type=click.IntRange(1))
@program_option
@operator_option
def offer_approve(offer_id: str, version: int, program: str, by: str | None) -> None:
    """Put VERSION of the terms of offer ID in force, which waits: as a second person."""
    _decide_terms(program, offer_id, version, True, by)


@offer.command("reject")
@click.argument("offer_id", metavar="ID")
@click.argument("version", type=click.IntRange(1))
@program_option
@operator_option
def offer_reject(offer_id: str, version: int, program: str, by: str | None) -> None:
    """Refuse VERSION of the terms of offer ID, which waits: as a second person."""
    _decide_terms(program, offer_id, version, False, by)


def _decide_terms(program: str, offer_id: str, version: int, approve: bool, by: str | None) -> None:
    command = DecideTerms(offer_id=offer_id, terms_version=version, approve=approve)
    with open_service() as service:
        answer = service.ledger.execute(program, command, meta(by))
    _done(answer, _of_terms(answer))


def _is_there(service: Service, program: str, offer_id: str) -> bool:
    with service.ledger.reading(program) as (cur, id_):
        cur.execute(
            "SELECT 1 FROM directory WHERE program_id = %s AND kind = 'offer' AND record_id = %s", (id_, offer_id)
        )
        return cur.fetchone() is not None


@click.group()
def affiliate() -> None:
    """Enrol affiliates, approve, suspend, reinstate and close them; say their group and who recruited them."""


@affiliate.command("enrol")
@click.argument("affiliate_id", metavar="ID")
@program_option
@click.option("--name", default="", help="The affiliate's name (kept encrypted).")
@click.option("--email", default="", help="The affiliate's address (kept encrypted).")
@click.option("--approve", is_flag=True, help="Approve the affiliate at once, so that it earns from now on.")
@operator_option
def affiliate_enrol(affiliate_id: str, program: str, name: str, email: str, approve: bool, by: str | None) -> None:
    """Take affiliate ID into a program."""
    with open_service() as service:
        who = meta(by)
        command = EnrolAffiliate(affiliate_id=affiliate_id, display_name=name, email=email)
        answer = service.ledger.execute(program, command, who)
        if approve:
            answer = service.ledger.execute(
                program, DecideAffiliate(affiliate_id=affiliate_id, decision="approve"), who
            )
    _done(answer, f"affiliate {affiliate_id} is {answer.body['status']}")


reason_option = click.option(
    "--reason", default="", metavar="TEXT", help="Why, kept encrypted with the affiliate's data."
)


def _decide(program: str, affiliate_id: str, decision: str, by: str | None, reason: str = "") -> None:
    released = 0
    with open_service() as service:
        who = meta(by)
        command = DecideAffiliate(affiliate_id=affiliate_id, decision=decision, reason=reason)
        answer = service.ledger.execute(program, command, who)
        if decision == "reinstate":  # all of it, unlike the API, whose caller would not wait so long
            for progress in service.ledger.release_suspended(program, who, affiliate_id):
                released = progress.done
    _done(answer, f"affiliate {affiliate_id} is {answer.body['status']}")
    if released:
        click.echo(f"{released:,} commissions that the suspension held are released")


@affiliate.command("approve")
@click.argument("affiliate_id", metavar="ID")
@program_option
@operator_option
def affiliate_approve(affiliate_id: str, program: str, by: str | None) -> None:
    """Let affiliate ID earn from now on."""
    _decide(program, affiliate_id, "approve", by)


@affiliate.command("suspend")
@click.argument("affiliate_id", metavar="ID")
@program_option
@reason_option
@operator_option
def affiliate_suspend(affiliate_id: str, program: str, reason: str, by: str | None) -> None:
    """Hold the commissions of affiliate ID from now on."""
    _decide(program, affiliate_id, "suspend", by, reason)


@affiliate.command("reinstate")
@click.argument("affiliate_id", metavar="ID")
@program_option
@reason_option
@operator_option
def affiliate_reinstate(affiliate_id: str, program: str, reason: str, by: str | None) -> None:
    """End the suspension of affiliate ID, and release what it held. Interrupted, the same command goes on."""
    _decide(program, affiliate_id, "reinstate", by, reason)


@affiliate.command("close")
@click.argument("affiliate_id", metavar="ID")
@program_option
@reason_option
@operator_option
def affiliate_close(affiliate_id: str, program: str, reason: str, by: str | None) -> None:
    """Let affiliate ID earn nothing new, for good. What it is owed stays owed."""
    _decide(program, affiliate_id, "close", by, reason)


@affiliate.command("group")
@click.argument("affiliate_id", metavar="ID")
@click.argument("group", metavar="GROUP")
@program_option
@click.option("--from", "effective_from", type=Instant(), metavar="INSTANT", help="From when on. Default: from now on.")
@operator_option
def affiliate_group(
    affiliate_id: str, group: str, program: str, effective_from: datetime | None, by: str | None
) -> None:
    """Put affiliate ID into GROUP (1-40 of a-z 0-9 _ -; '' for none), by which plans may pay it otherwise."""
    with open_service() as service:
        command = GroupAffiliate(affiliate_id=affiliate_id, group=group, effective_from=effective_from)
        answer = service.ledger.execute(program, command, meta(by))
    starts = answer.body["effective_from"]
    since = f" from {starts:%Y-%m-%d %H:%M} UTC on" if starts.year > 1 else ""
    _done(answer, f"affiliate {affiliate_id} is in {f'the group {group}' if group else 'no group'}{since}")


@affiliate.command("recruiter")
@click.argument("affiliate_id", metavar="ID")
@click.argument("recruiter_id", metavar="RECRUITER")
@program_option
@operator_option
def affiliate_recruiter(affiliate_id: str, recruiter_id: str, program: str, by: str | None) -> None:
    """Say that affiliate RECRUITER brought affiliate ID into the program. It is said once and for ever."""
    with open_service() as service:
        command = RecruitAffiliate(affiliate_id=affiliate_id, recruiter_id=recruiter_id)
        answer = service.ledger.execute(program, command, meta(by))
    _done(answer, f"affiliate {affiliate_id} was recruited by {recruiter_id}")


@click.group()
def key() -> None:
    """Issue, revoke and list the access keys of the API."""


@key.command("issue")
@program_option
@click.option("--role", type=click.Choice(ROLES), required=True, help="What the key may do.")
@click.option("--holder", required=True, metavar="NAME", help="Who will use it: a staff or system id.")
@click.option("--kind", type=click.Choice(["person", "system"]), default="person", show_default=True)
@click.option("--affiliate", "affiliate_id", default="", metavar="ID", help="Role affiliate: whose data it opens.")
@click.option("--expires-days", type=click.IntRange(1, 3650), default=365, show_default=True, help="Days it works.")
@operator_option
@json_option
def key_issue(
    program: str,
    role: str,
    holder: str,
    kind: str,
    affiliate_id: str,
    expires_days: int,
    by: str | None,
    as_json: bool,
) -> None:
    """Issue an access key. The token is shown this once. Nobody issues a key to themselves."""
    expires_at = datetime.now(UTC) + timedelta(days=expires_days)
    with open_service() as service:
        who = meta(by)
        try:
            issued = service.ledger.issue_key(
                program,
                role=role,
                holder=holder,
                holder_kind=kind,
                expires_at=expires_at,
                affiliate_id=affiliate_id,
                meta=who,
            )
        except SamePerson:
            raise SamePerson(
                f"nobody issues a key to themselves: {who.actor} both issues and holds it. Somebody else has to issue"
                " it: --by OPERATOR, or LEDGER_OPERATOR in the environment, says who"
            ) from None
    if as_json:
        print_json({"key_id": issued.key_id, "token": issued.token, "role": role, "expires_at": expires_at})
        return
    click.echo(issued.token)
    note(f"key {issued.key_id} for {holder} ({role}), until {expires_at:%Y-%m-%d}. The token above is shown this once.")


@key.command("revoke")
@click.argument("key_id")
@program_option
@operator_option
def key_revoke(key_id: str, program: str, by: str | None) -> None:
    """Make key KEY_ID open nothing any more, within seconds."""
    with open_service() as service:
        answer = service.ledger.revoke_key(program, key_id, meta(by))
    _done(answer, f"key {key_id} is revoked")


@key.command("list")
@program_option
@json_option
def key_list(program: str, as_json: bool) -> None:
    """List a program's keys: who holds them, for what, until when. Secrets are stored nowhere."""
    names = ("key_id", "role", "holder", "kind", "affiliate_id", "issued_by", "issued_at", "expires_at", "revoked_at")
    with open_service() as service, service.ledger.reading(program) as (cur, id_):
        last_position(cur, id_, "books")
        cur.execute(
            "SELECT key_id, role, holder, holder_kind, affiliate_id, issued_by, issued_at, expires_at, revoked_at"
            " FROM api_keys WHERE program_id = %s ORDER BY issued_at, key_id",
            (id_,),
        )
        rows = cur.fetchall()
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    now = datetime.now(UTC)
    table = []
    for key_id, role, holder, kind, affiliate_id, issued_by, _, expires_at, revoked_at in rows:
        state = "revoked" if revoked_at else "expired" if expires_at <= now else f"until {expires_at:%Y-%m-%d}"
        table.append((key_id, role, affiliate_id or "-", f"{holder} ({kind})", issued_by, state))
    print_table(("key", "role", "affiliate", "holder", "issued by", "state"), table)


@click.command("postback-secret")
@program_option
def postback_secret(program: str) -> None:
    """Show the secret with which a merchant's system signs its postbacks."""
    with open_service() as service:
        with service.ledger.reading(program) as (cur, id_):
            last_position(cur, id_, "books")
        click.echo(service.secrets.postback_secret(program_id(program)))


COMMANDS = (program, offer, affiliate, key, postback_secret)
