"""Writes `migrations/schema.sql`, the sum of all migrations, for people to read and a test to compare.

    .venv/bin/python -m ledger.store.schema      after adding a migration; commit what it writes

Nothing is ever made from that file except in the test that proves it equal to the migrations.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from ledger.store import database, migrate
from ledger.store.embedded import EmbeddedServer

HEADER = """\
-- The schema that the migrations in this folder add up to, written by `python -m ledger.store.schema`.
-- Read it; never apply or edit it. tests/test_migrations.py proves the sum.

SELECT pg_catalog.set_config('search_path', '', true);
SET LOCAL check_function_bodies = false;
"""
# What pg_dump adds of its own, which differs between its versions and from run to run.
NOISE = re.compile(
    r"^--\n-- .*\n--\n"  # headings
    r"|^-- Dumped .*\n"
    r"|^\\(un)?restrict .*\n"
    r"|^SELECT pg_catalog\.set_config\('search_path'.*\n"
    r"|^SET (\w+_timeout|client_encoding|standard_conforming_strings|check_function_bodies|xmloption"
    r"|client_min_messages|row_security|default_tablespace|default_table_access_method) = .*;\n",
    re.MULTILINE,
)


def dump(server: EmbeddedServer, name: str) -> str:
    """The schema of a database with its rights, without its owner's name or anything of pg_dump's version.

    Raises subprocess.CalledProcessError when pg_dump fails.
    """
    command = [server.program("pg_dump"), "--schema-only", "--no-owner", server.url(name, "ledger_owner")]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.sub(r"\n{3,}", "\n\n", NOISE.sub("", text)).strip() + "\n"


def main() -> int:
    """Migrate an empty database of a throw-away server and write its schema; returns an exit code."""
    target = migrate.DIRECTORY / "schema.sql"
    with (
        tempfile.TemporaryDirectory(prefix="ledger-schema-") as home,
        EmbeddedServer.start(Path(home)) as server,
    ):
        database.make_roles(server)
        database.make_database(server, "ledger")
        migrate.migrate(server.url("ledger", "ledger_owner"))
        target.write_text(f"{HEADER}\n{dump(server, 'ledger')}", encoding="utf-8")
    print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
