"""What the verbs share: options, who asks, progress on a terminal, tables and JSON documents."""

from __future__ import annotations

import getpass
import os
import re
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click
import msgspec

from ledger.desk import Meta
from ledger.domain import money
from ledger.domain.errors import InvalidInput

Verb = TypeVar("Verb", bound=Callable[..., Any])

program_option = click.option("--program", "-p", required=True, metavar="ID", help="The program whose books are meant.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document; amounts in minor units.")


def operator_option(verb: Verb) -> Verb:
    """--by: who does this, as it will stand in the log."""
    return click.option("--by", metavar="OPERATOR", help="Who does this; else $LEDGER_OPERATOR, else the system user.")(
        verb
    )


class Instant(click.ParamType[datetime]):
    """An instant with a zone, or a day, which means its first moment in UTC."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The instant in UTC."""
        if isinstance(value, datetime):
            return value
        try:
            found = datetime.fromisoformat(value)
            if re.fullmatch(r"\d{4}-\d\d-\d\d", value):
                return found.replace(tzinfo=UTC)
            if found.tzinfo is None:
                raise ValueError
            return found.astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no instant such as 2026-01-31T12:00:00Z (with a zone), or 2026-01-31", param, ctx)


class PositionOrInstant(Instant):
    """A position of the log, or an instant at which it was recorded."""

    name = "position|instant"

    def convert(  # type: ignore[override]
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | datetime:
        """Digits alone are a position."""
        if isinstance(value, str) and re.fullmatch(r"\d{1,18}", value):
            return int(value)
        return super().convert(value, param, ctx)


def operator(given: str | None) -> str:
    """The person or job that asks. Raises click.UsageError when nobody can be named."""
    try:
        found = given or os.environ.get("LEDGER_OPERATOR") or getpass.getuser()
    except (KeyError, OSError):
        raise click.UsageError("say who does this: --by OPERATOR, or LEDGER_OPERATOR in the environment") from None
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", found):
        raise click.UsageError(f"an operator's name has 1-64 characters of A-Z a-z 0-9 . _ -; {found!r} has others")
    if found.startswith("job."):
        raise click.UsageError("an operator's name does not begin with job.: the worker's jobs are called so")
    return found


def meta(by: str | None) -> Meta:
    """What the log will say of who asked, and in which run of the command."""
    return Meta(actor=operator(by), request_id=f"cli-{uuid.uuid4().hex[:16]}")


# --- output ----------------------------------------------------------------------------------------------


def print_json(document: Any) -> None:
    """One document on one line."""
    click.echo(msgspec.json.encode(document).decode())


def major(amount: int, currency: str) -> str:
    """Minor units for people: 123456 GBP → 1,234.56."""
    return f"{Decimal(money.major_units(amount, currency)):,}"


def local_day(at: datetime, zone: str) -> str:
    """An instant's day where the program is: a bank's day is kept as the midnight with which it begins there."""
    return f"{at.astimezone(ZoneInfo(zone)):%Y-%m-%d}"


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Columns as wide as they need to be; those numbered in `right` (from 0) flush right. Without rows: none."""
    if not rows:
        click.echo("none")
        return
    widths = [max(len(row[n]) for row in [headings, *rows]) for n in range(len(headings))]

    def line(cells: Sequence[str]) -> str:
        parts = [c.rjust(widths[n]) if n in right else c.ljust(widths[n]) for n, c in enumerate(cells)]
        return "  ".join(parts).rstrip()

    click.echo(line(headings))
    click.echo("  ".join("-" * width for width in widths))
    for row in rows:
        click.echo(line(row))


def read_some(option: str, file: Path, most: int) -> bytes:
    """A small file's bytes, one more than `most` at the most. Raises InvalidInput naming the option."""
    try:
        with file.open("rb") as opened:
            return opened.read(most + 1)
    except OSError as problem:
        raise InvalidInput(option, f"{file} cannot be read: {problem.strerror}") from None


class Ticker:
    """One line on stderr that counts, on a terminal only; nothing in a pipe."""

    def __init__(self, what: str = "") -> None:
        self._what = what
        self._shown = sys.stderr.isatty()
        self._started = self._last = time.monotonic()
        self._drawn = False

    def show(self, done: int, total: int | None = None) -> None:
        """Draw how far the work has come, at most ten times a second."""
        self.say(self._what, done, total)

    def say(self, what: str, done: int, total: int | None = None) -> None:
        """The same for work of several kinds; each kind counts its own speed."""
        if not self._shown:
            return
        now = time.monotonic()
        if what == self._what and self._drawn and now - self._last < 0.1:
            return
        if what != self._what:
            self._what, self._started = what, now
        self._last, self._drawn = now, True
        share = f" of {total:,}" if total else ""
        seconds = now - self._started
        speed = f" ({done / seconds:,.0f}/s)" if seconds > 0.5 else ""
        sys.stderr.write(f"\r\033[K{what}: {done:,}{share}{speed}")
        sys.stderr.flush()

    def end(self) -> None:
        """Take the line away."""
        if self._drawn:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def __enter__(self) -> Ticker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()


def note(text: str) -> None:
    """A remark for whoever watches; on stderr, so that it never mixes with what is printed."""
    click.echo(text, err=True)
