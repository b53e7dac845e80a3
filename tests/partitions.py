"""The stand-in for a distributed engine: the same migrations, with every per-program table in hash partitions.

PostgreSQL then refuses what an engine distributed by program_id would refuse (a unique key without it), and EXPLAIN
shows how many partitions, there shards, a statement touches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import psycopg
import pytest
from psycopg import sql

from ledger.store import database as store
from ledger.store.embedded import EmbeddedServer
from ledger.store.migrate import migrate

PARTITIONS = 4
_TABLE = re.compile(r"CREATE TABLE (?P<name>[\w.]+) \((?P<body>.*?)\n\)(?P<storage> WITH \([^)]*\))?;", re.DOTALL)
_PARTITION = re.compile(r"_p(\d+)$")
_COPY_OUT = re.compile(r"(?:\s*--[^\n]*\n)*\s*COPY \((.*)\) TO STDOUT", re.DOTALL)  # judged as the query that it is
_KINDS = re.compile(r"\s*(?:--[^\n]*\n\s*)*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", re.IGNORECASE)


def partitioned(text: str) -> str:
    """A migration's SQL with every CREATE TABLE partitioned. Raises ValueError for one without a program_id."""

    def rewrite(found: re.Match[str]) -> str:
        name, body, storage = found["name"], found["body"], found["storage"] or ""
        if not re.match(r"\s*program_id +uuid +NOT NULL,", body):
            raise ValueError(f"{name} does not begin with program_id")
        parts = [
            f"CREATE TABLE {name}_p{n} PARTITION OF {name}"
            f" FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {n}){storage};"
            for n in range(PARTITIONS)
        ]
        return "\n".join([f"CREATE TABLE {name} ({body}\n) PARTITION BY HASH (program_id);", *parts])

    return _TABLE.sub(rewrite, text)


class Statement(NamedTuple):
    """What was sent to PostgreSQL; params None for a COPY."""

    text: str
    params: Any


def text_of(query: Any) -> str:
    """A query's text, however it was given."""
    if isinstance(query, bytes):
        return query.decode()
    return query.as_string(None) if isinstance(query, sql.Composable) else str(query)


@contextmanager
def recorded() -> Iterator[list[Statement]]:
    """Every statement that anybody in this process sends through psycopg while the block lasts."""
    found: list[Statement] = []
    execute, copy = psycopg.Cursor.execute, psycopg.Cursor.copy

    def recording_execute(self: Any, query: Any, params: Any = None, **more: Any) -> Any:
        found.append(Statement(text_of(query), params))
        return execute(self, query, params, **more)

    def recording_copy(self: Any, statement: Any, params: Any = None, **more: Any) -> Any:
        text = text_of(statement)
        query = _COPY_OUT.match(text)
        found.append(Statement(query[1], params) if query else Statement(text, None))
        return copy(self, statement, params, **more)

    server_execute = psycopg.ServerCursor.execute

    def recording_server(self: Any, query: Any, params: Any = None, **more: Any) -> Any:
        found.append(Statement(text_of(query), params))
        return server_execute(self, query, params, **more)

    with (
        mock.patch.object(psycopg.ServerCursor, "execute", recording_server),
        mock.patch.object(psycopg.Cursor, "execute", recording_execute),
        mock.patch.object(psycopg.Cursor, "copy", recording_copy),
    ):
        yield found


def relations(plan: Any) -> set[str]:
    """The names of the tables that a plan, as EXPLAIN's JSON, reads or changes."""
    if isinstance(plan, list):
        return set().union(*map(relations, plan))
    if not isinstance(plan, dict):
        return set()
    own = {plan["Relation Name"]} if "Relation Name" in plan else set()
    return own.union(*map(relations, plan.values()))


def shards(conn: psycopg.Connection[Any], statement: Statement) -> set[str]:
    """The numbers of the partitions that a statement would touch, by its plan; empty for one that only inserts."""
    if not _KINDS.match(statement.text):
        return set()
    row = conn.execute(f"EXPLAIN (COSTS OFF, FORMAT JSON) {statement.text}".encode(), statement.params).fetchone()
    assert row is not None
    return {found[1] for name in relations(row[0]) if (found := _PARTITION.search(name))}


@pytest.fixture(scope="session")
def template(server: EmbeddedServer) -> str:
    """Imported into a test module, it puts that module's databases on the stand-in."""
    store.make_database(server, "partitioned_template")
    migrate(server.url("partitioned_template", "ledger_owner"), transform=partitioned)
    return "partitioned_template"
