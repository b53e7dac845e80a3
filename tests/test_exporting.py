"""`ledger export`: what is in the directory, and that nothing stops it from being whole, equal and nobody else's."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid5

import msgspec
import pytest
from exporting_world import database, export_firm, files_of, firm, lines_in, sealed_size, small, stored_lines
from proof_world import KEYS
from statement_world import Firm
from support import T0, by, owner, program_id

from ledger.audit import directory as names
from ledger.audit import merkle, notes, sealing
from ledger.audit.exporting_place import ExportRefused
from ledger.audit.keys import SigningKeys
from ledger.domain.affiliate import EnrolAffiliate
from ledger.domain.errors import InvalidInput
from ledger.domain.program import OpenProgram
from ledger.exporting.exporter import export
from ledger.projections import books
from ledger.store import log
from ledger.store.database import Database

__all__ = ["database", "firm", "small"]  # the fixtures

PERSONAL = ("Ada & Co", "Bob & Co", "@example.com", "DE123", "the bank says so", "agreed", "forgotten reason")


def asked(query: str) -> list[Any]:
    """What DuckDB answers, which knows nothing of ours."""
    import duckdb

    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()


# --- what is in it ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_an_export_holds_every_sealed_event_and_says_so(firm: Firm, tmp_path: Path) -> None:
    """Segments are the export lines byte for byte; the manifest's sizes, hashes, roots and totals are theirs."""
    manifest = export_firm(firm, tmp_path / "out")
    root = tmp_path / "out"
    for name in names.LOGS:
        size = sealed_size(firm, name)
        lines = lines_in(root, name)
        assert lines == stored_lines(firm, name, size)
        assert manifest.logs[name].size == manifest.totals.events[name] == len(lines)
        assert manifest.logs[name].root == merkle.root_of(map(merkle.leaf_hash, lines)).hex()
    found = files_of(root)
    assert found.keys() == {file.path for file in manifest.files} | {names.MANIFEST}
    for file in manifest.files:
        assert (file.bytes, file.sha256) == (len(found[file.path]), sha256(found[file.path]).hexdigest())
    assert [f.path for f in manifest.files if f.log == "traffic"] == [
        "traffic/000000000001.ndjson", "traffic/000000000041.ndjson",
    ]  # fmt: skip
    assert [(f.first, f.last) for f in manifest.files if f.log == "traffic"] == [(1, 40), (41, 70)]
    assert manifest.totals.statements == found[names.STATEMENTS].count(b"\n") > 10
    assert manifest.totals.accounts == found[names.BALANCES].count(b"\n") > 10
    assert all((path.stat().st_mode & 0o077) == 0 for path in [root, *root.rglob("*")])


def test_the_checkpoints_vouch_for_what_was_exported(firm: Firm, tmp_path: Path) -> None:
    """Signed by the keys in keys.txt, over the size and the root in the manifest."""
    manifest = export_firm(firm, tmp_path / "out")
    keys = [notes.read_verifier_key(line) for line in (tmp_path / "out" / names.KEYS).read_text().splitlines()]
    assert {str(key) for key in keys} == {str(KEYS.signers("firm", name)[0].key) for name in names.LOGS}
    for name in names.LOGS:
        checkpoint = notes.open_checkpoint((tmp_path / "out" / name / names.CHECKPOINT).read_text(), keys)
        assert (checkpoint.size, checkpoint.root.hex()) == (manifest.logs[name].size, manifest.logs[name].root)


def test_a_retired_key_is_exported_with_the_size_where_it_ended(firm: Firm, tmp_path: Path) -> None:
    """`VKEY until SIZE`: an auditor with this file believes a stolen old key no larger checkpoint. The page's script
    and our own verify read it."""
    ledger, program = firm.ledger, "rotated"
    ledger.open_program(OpenProgram(program=program, currency="GBP"), by())
    both = [SigningKeys([seed], "ledger.example").signers(program, "books") for seed in (b"\x0a" * 32, b"\x0b" * 32)]
    sizes = []
    for number, signers in enumerate(both):
        ledger.execute(program, EnrolAffiliate(affiliate_id=f"a{number}"), by())
        sizes.append(sealing.seal(ledger, program, "books", signers, firm.clock()).checkpoint)
    assert sizes[0] is not None
    root = tmp_path / "out"
    export(ledger, program, root)
    old, new = (str(signers[0].key) for signers in both)
    assert (root / names.KEYS).read_text() == f"{old} until {sizes[0].size}\n{new}\n"
    script = re.findall(r"```python\n(.*?)```", (root / names.README).read_text(), re.DOTALL)[1]
    signed = subprocess.run([sys.executable, "-I", "-c", script], cwd=root, capture_output=True, text=True)
    assert (signed.returncode, signed.stdout.count("Signature Verified Successfully")) == (0, 1), signed.stderr


def test_an_export_until_a_position_is_as_of_that_position(firm: Firm, tmp_path: Path) -> None:
    """Clicks by then, balances and statements as they were, and a proof that leads from there to the checkpoint."""
    until = 90
    root = tmp_path / "out"
    manifest = export_firm(firm, root, until=until)
    assert manifest.logs["books"].size == until
    assert manifest.logs["traffic"].size == 0
    assert not (root / "traffic").exists()
    with firm.ledger.reading(firm.program) as (cur, id_):
        expected = {(a, c): n for a, c, n in books.account_balances(cur, id_, books.AsOf(until))}
        now = {(a, c): n for a, c, n in books.account_balances(cur, id_, books.AsOf())}
    found = [json.loads(line) for line in (root / names.BALANCES).read_bytes().splitlines()]
    assert {(one["account"], one["currency"]): one["amount"] for one in found} == expected != now
    consistency = json.loads((root / "books" / names.CONSISTENCY).read_bytes())
    checkpoint = notes.read_checkpoint((root / "books" / names.CHECKPOINT).read_text())
    assert (consistency["from"], consistency["to"]) == (until, checkpoint.size)
    assert checkpoint.size == sealed_size(firm, "books")
    proof = [base64.b64decode(one) for one in consistency["proof"]]
    merkle.verify_consistency(
        until, checkpoint.size, proof, bytes.fromhex(manifest.logs["books"].root), checkpoint.root
    )


@pytest.mark.parametrize("until", [None, 75])
def test_statements_are_those_that_the_log_issued(firm: Firm, tmp_path: Path, until: int | None) -> None:
    """In its order, each with the document that leads to the hash in its event, reissues included."""
    export_firm(firm, tmp_path / "out", until=until)
    lines = [json.loads(line) for line in lines_in(tmp_path / "out", "books")]
    issued = [line["state"] for line in lines if line["topic"] == "StatementIssued"]
    found = [json.loads(line) for line in (tmp_path / "out" / names.STATEMENTS).read_bytes().splitlines()]
    wanted = [(one["affiliate_id"], one["period"], one.get("version", 1), one["hash"]) for one in issued]
    assert [(one["affiliate_id"], one["period"], one["version"], one["hash"]) for one in found] == wanted
    assert len(wanted) > 2
    for one in found:
        assert sha256(one["document"].encode()).hexdigest() == one["hash"]
    if until is None:
        assert {one["version"] for one in found} == {1, 2}


def test_the_books_control_totals_are_the_journals(firm: Firm, tmp_path: Path, database: Database) -> None:
    """Lines and turnover by currency, as SQL adds them up."""
    manifest = export_firm(firm, tmp_path / "out", until=90)
    with owner(database) as conn:
        rows = conn.execute(
            "SELECT currency, count(*), sum(amount)::bigint FROM journal WHERE program_id = %s AND position <= 90"
            " GROUP BY 1",
            (program_id(firm.program),),
        ).fetchall()
    assert manifest.totals.turnover == {currency: amount for currency, _, amount in rows}
    assert manifest.totals.journal_lines == sum(count for _, count, _ in rows)


@pytest.mark.parametrize("form", [names.NDJSON, names.PARQUET])
def test_the_readme_tells_an_auditor_how_to_check_it_alone(firm: Firm, tmp_path: Path, form: str) -> None:
    """Its two scripts run as they stand, need nothing of ours, and find a change."""
    root = tmp_path / "out"
    manifest = export_firm(firm, root, segments=form)
    scripts = re.findall(r"```python\n(.*?)```", (root / names.README).read_text(), re.DOTALL)
    assert len(scripts) == 2

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-I", "-c", script], cwd=root, capture_output=True, text=True)

    said = run(scripts[0])
    assert said.returncode == 0, said.stderr
    for name in names.LOGS:
        root_text = base64.b64encode(bytes.fromhex(manifest.logs[name].root)).decode()
        assert f"{name}: {manifest.logs[name].size} events lead to the root {root_text}" in said.stdout
        assert root_text in (root / name / names.CHECKPOINT).read_text()
    signed = run(scripts[1])
    assert signed.returncode == 0, signed.stderr
    assert signed.stdout.count("Signature Verified Successfully") == 2
    note = root / "books" / names.CHECKPOINT
    note.write_text(note.read_text().replace("\n" + str(manifest.logs["books"].size) + "\n", "\n1\n"))
    assert run(scripts[0]).returncode != 0
    assert run(scripts[1]).returncode != 0


def test_no_plaintext_personal_data_is_in_an_export(firm: Firm, tmp_path: Path) -> None:
    """Names, e-mail addresses, tax numbers and reasons stand there as ciphertext only, in NDJSON and in Parquet."""
    for form in (names.NDJSON, names.PARQUET):
        export_firm(firm, tmp_path / form, segments=form)
        everything = b"".join(files_of(tmp_path / form).values())
        if form == names.PARQUET:  # its columns are compressed
            rows = asked(f"SELECT COLUMNS(*)::VARCHAR FROM '{tmp_path / form}/*/*.parquet'")
            everything += "\n".join(text for row in rows for text in row).encode()
        for text in PERSONAL:
            assert text.encode() not in everything
            assert json.dumps(text)[1:-1].encode() not in everything
    assert b"display_name" in everything


NASTY = 'a"\\/\x01\x08\x0c\n\r\t\x7f é 語 \u2028 \U0001f600 <&>\' {"state":1}'


@pytest.mark.parametrize("form", [names.NDJSON, names.PARQUET])
def test_lines_of_strange_text_are_exported_as_they_were_hashed(firm: Firm, tmp_path: Path, form: str) -> None:
    """Quotes, backslashes, control characters, other alphabets: made in SQL, equal to the codec's bytes."""
    program = f"strange-{form}"
    firm.ledger.open_program(OpenProgram(program=program, currency="GBP"), by())
    state = '{"text":' + json.dumps(NASTY) + ',"n":' + msgspec.json.encode(NASTY).decode() + ',"state":{},"e":1e5}'
    with firm.ledger.writing(program) as (cur, id_):
        head = log.lock_head(cur, id_, "traffic")
        rows = [
            log.row(uuid5(id_, str(n)), n, "Strange", state.encode(), NASTY, "", f"{n}{NASTY}", "\\\\N") for n in (1, 2)
        ]
        log.append(cur, id_, "traffic", head, rows, T0.replace(microsecond=7))
        log.advance_head(cur, id_, "traffic", head, len(rows), T0, head.master_position)
        expected = [log.stored_line(id_, "traffic", row) for row in log.select_rows(cur, id_, "traffic", 0, 9)]
    export(firm.ledger, program, tmp_path / "out", segments=form, unsealed=True)
    path = f"{tmp_path / 'out'}/traffic/000000000001.{form}"
    if form == names.NDJSON:
        assert Path(path).read_bytes() == b"".join(line + b"\n" for line in expected)
        return
    columns = ", ".join(names.PARQUET_COLUMNS).replace("recorded_at", "epoch_us(recorded_at)")
    rows_found = asked(f"SELECT {columns} FROM '{path}'")
    assert [row[-1].encode() for row in rows_found] == expected
    assert rows_found[0][:-1] == (
        1, str(uuid5(id_, "1")), 1, "Strange", int(T0.timestamp()) * 10**6 + 7, NASTY, "", f"1{NASTY}", "\\\\N", state,
    )  # fmt: skip


@pytest.mark.usefixtures("small")
def test_parquet_holds_the_same_lines_and_comes_out_the_same_again(firm: Firm, tmp_path: Path) -> None:
    """The roots of both forms are equal; types are those of the description; a second export has the same bytes."""
    manifest = export_firm(firm, tmp_path / "a", segments=names.PARQUET)
    export_firm(firm, tmp_path / "b", segments=names.PARQUET)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert manifest.logs == export_firm(firm, tmp_path / "c").logs
    described = asked(f"DESCRIBE SELECT * FROM '{tmp_path}/a/books/*.parquet'")
    assert [row[0] for row in described] == list(names.PARQUET_COLUMNS)
    assert dict(row[:2] for row in described)["recorded_at"] == "TIMESTAMP WITH TIME ZONE"
    lines = [line for (line,) in asked(f"SELECT line FROM '{tmp_path}/a/books/*.parquet' ORDER BY position")]
    assert [line.encode() for line in lines] == lines_in(tmp_path / "c", "books")
    assert export(firm.ledger, firm.program, tmp_path / "a", segments=names.PARQUET).written == 0


# --- how far -----------------------------------------------------------------------------------------------


def test_what_is_not_sealed_is_refused_with_the_way_out(firm: Firm, tmp_path: Path) -> None:
    """A position behind the checkpoint, one that does not exist, a log that was never sealed: nothing is made."""
    out = tmp_path / "out"
    sealed = sealed_size(firm, "books")
    with pytest.raises(
        ExportRefused, match=f"books is sealed up to position {sealed}, not to {sealed + 1}: run `ledger seal"
    ):
        export_firm(firm, out, until=sealed + 1)
    for wrong in (0, 10**6):
        with pytest.raises(InvalidInput, match="must be a position of the books: 1 to"):
            export_firm(firm, out, until=wrong)
    firm.ledger.open_program(OpenProgram(program="unsealed", currency="GBP"), by())
    with pytest.raises(ExportRefused, match="books was never sealed: run `ledger seal --program unsealed` first"):
        export(firm.ledger, "unsealed", out)
    assert not out.exists()


def test_an_unsealed_export_says_so_loudly(firm: Firm, tmp_path: Path) -> None:
    """Everything to the logs' ends, no checkpoint and no keys; README and manifest say that nothing vouches for it."""
    manifest = export_firm(firm, tmp_path / "out", unsealed=True)
    assert not manifest.sealed
    assert manifest.logs["books"].size > sealed_size(firm, "books")
    assert "NOT SEALED" in (tmp_path / "out" / names.README).read_text()
    assert not {names.KEYS, "books/checkpoint", "traffic/checkpoint"} & files_of(tmp_path / "out").keys()


@pytest.mark.usefixtures("small")
def test_writing_goes_on_meanwhile_and_is_not_seen(firm: Firm, tmp_path: Path) -> None:
    """Sales recorded while the export runs change none of its bytes."""
    export_firm(firm, tmp_path / "quiet")
    sold = 0

    def sell(*_: object) -> None:
        nonlocal sold
        sold += 1
        firm.sell(f"meanwhile-{sold}", 5_000)

    export_firm(firm, tmp_path / "busy", progress=sell)
    assert sold > 5
    assert files_of(tmp_path / "busy") == files_of(tmp_path / "quiet")
