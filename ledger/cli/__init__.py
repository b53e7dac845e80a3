"""The `ledger` command: `ledger VERB --help` explains each verb."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import click
import psycopg
import psycopg_pool

from ledger.audit.keys import SigningKeyWrong
from ledger.audit.sealing import SealRefused
from ledger.audit.tree import TreeIncomplete
from ledger.backup.manifest import BackupRefused
from ledger.cli import (
    auditing,
    backups,
    banking,
    checking,
    demo,
    earning,
    erasing,
    explaining,
    exporting,
    importing,
    listing,
    money,
    operating,
    payees,
    payouts,
    plan_trials,
    plan_versions,
    plans,
    proving,
    rates,
    reconciling,
    records,
    replaying,
    reporting,
    simulating,
    statement_proof,
    statements,
    taxes,
    verifying,
    witnessing,
    working,
)
from ledger.domain.errors import Refusal
from ledger.imports.errors import ImportRefused
from ledger.mail import MailSettingsWrong
from ledger.projections.rebuild import RebuildCollision
from ledger.store.database import StartupRefused
from ledger.store.embedded import EmbeddedServerError
from ledger.store.log import UnknownProgram
from ledger.store.migrate import MigrationError
from ledger.store.vault import MasterKeyMissing

EXPECTED = (
    Refusal,
    ImportRefused,
    BackupRefused,
    StartupRefused,
    EmbeddedServerError,
    MigrationError,
    MasterKeyMissing,
    SigningKeyWrong,
    SealRefused,
    TreeIncomplete,
    MailSettingsWrong,
    RebuildCollision,
    OSError,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """An affiliate program's commission ledger: from a click to a balance that adds up.

    Without DATABASE_URL every verb starts its own PostgreSQL, in LEDGER_HOME or in var/ beside run.py.
    """


MODULES = (
    demo, operating, records, plans, plan_trials, plan_versions, earning, listing, money, importing, rates, payees,
    payouts, statements, statement_proof, taxes, reconciling, banking, auditing, checking, proving, witnessing,
    replaying, explaining, simulating, reporting, exporting, verifying, erasing, backups, working,
)  # fmt: skip
for verbs in MODULES:
    for command in verbs.COMMANDS:
        cli.add_command(command)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run a verb and exit: 0 done, 1 refused (one line on stderr says why), 2 wrong usage, 130 interrupted."""
    # What the driver remarks about connections that went away, we say ourselves, once.
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    # As Ctrl-C does: whoever holds something lets go of it, the embedded server above all.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        result = cli.main(args=args, prog_name="ledger", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as problem:
        problem.show()
        sys.exit(2)
    except click.ClickException as problem:
        _fail(problem.format_message())
    except (click.Abort, KeyboardInterrupt):
        _interrupted()
    except BrokenPipeError:
        # The reader (such as `head`) has seen enough; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except EXPECTED as problem:
        _fail(str(problem))
    except UnknownProgram:
        _fail("there is no such program; `ledger program open ID --currency GBP` opens one")
    except (psycopg.Error, psycopg_pool.PoolTimeout) as problem:
        if isinstance(problem.__context__, KeyboardInterrupt):
            _interrupted()  # which cancelled a statement, and that is what came back
        _fail(f"the database refused or went away: {problem}. Nothing half done was kept; the same again is safe.")
    sys.exit(result if isinstance(result, int) else 0)


def _interrupted() -> NoReturn:
    _say("interrupted; what was recorded stays recorded. The same command again goes on where this one stopped.")
    sys.exit(130)


def _say(text: str) -> None:
    print(f"ledger: {' '.join(text.split())}", file=sys.stderr)


def _fail(text: str) -> NoReturn:
    _say(text)
    sys.exit(1)
