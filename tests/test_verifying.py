"""`ledger verify DIR`: what it prints, whose keys count, and that each kind of difference is found and named."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb
import pytest
from audit_world import Books, audited_firm, books_of, keys, make_export, read_books, rewrite, signed, verify
from conftest import fresh_database
from proof_world import KEYS
from support import T0, Clock, open_ledger

from ledger.audit import directory as names
from ledger.audit import verifying, verifying_streams
from ledger.audit.findings import KINDS, Finding, shown
from ledger.audit.notes import COSIGNATURE_V1, InvalidNote, Signer, VerifierKey
from ledger.audit.report import text
from ledger.audit.verifying_directory import Request, verify_directory
from ledger.audit.verifying_seals import read_keys
from ledger.store import database as store
from ledger.store.embedded import EmbeddedServer

OPERATOR = KEYS.signers("firm", "books")[0]
Capsys = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def exports(server: EmbeddedServer, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Exports of one firm: whole, as Parquet, of the first 90 positions, and one that nobody signed."""
    with fresh_database(server, template) as name, open_ledger(store.urls(server, name), Clock(T0)) as ledger:
        firm = audited_firm(ledger, ledger.clock)  # type: ignore[arg-type]
        root = tmp_path_factory.mktemp("exports")
        make_export(firm, root / "whole")
        make_export(firm, root / "parquet", segments=names.PARQUET)
        make_export(firm, root / "first", until=90)
        make_export(firm, root / "unsealed", unsealed=True)
        yield root


@pytest.fixture(scope="module")
def books(exports: Path) -> Books:
    """Its books, in memory."""
    return books_of(exports / "whole")


# --- the report --------------------------------------------------------------------------------------------


def test_an_export_is_verified_and_the_report_can_be_filed(exports: Path, tmp_path: Path, capsys: Capsys) -> None:
    """Exit code 0; counts, control totals, checkpoint, key, code version and who signed off are in text and JSON."""
    known = [f"--key={key}" for key in keys()]
    code, told = verify(capsys, exports / "whole", *known, "--by", "Eve Auditor", "--json", tmp_path / "report.json")
    assert code == 0, told
    report = json.loads((tmp_path / "report.json").read_bytes())
    manifest = names.read_manifest((exports / "whole" / names.MANIFEST).read_bytes())
    size = manifest.logs["books"].size
    assert (report["result"], report["findings"], report["warnings"]) == ("VERIFIED", [], [])
    assert report["signed_off_by"] == "Eve Auditor"
    assert report["seals"]["books"]["root"] == manifest.logs["books"].root
    assert report["seals"]["books"]["signed_by"] == [str(OPERATOR.key)]
    assert sum(report["witnessed"]["topics"]["books"].values()) == size
    assert report["witnessed"]["turnover"] == manifest.totals.turnover
    assert report["witnessed"]["sums"] == {"EUR": 0, "GBP": 0}
    assert report["witnessed"]["statements"] == manifest.totals.statements > 10
    assert report["witnessed"]["clicks_compared"] == 6
    assert report["code_version"] == manifest.code_version
    for said in (f"{size:,} events", "turnover", str(OPERATOR.key), "signed off by Eve Auditor", "VERIFIED"):
        assert said in told


def test_the_exports_own_keys_are_not_enough_to_be_sure(exports: Path, tmp_path: Path, capsys: Capsys) -> None:
    """Without keys of the auditor's the report warns; with a stranger's key nothing is signed."""
    code, told = verify(capsys, exports / "whole")
    assert (code, "WARNING" in told) == (0, True)
    (tmp_path / "keys.txt").write_text("# known from the contract\n" + "".join(f"{key}\n" for key in keys()))
    code, told = verify(capsys, exports / "whole", "--keys", tmp_path / "keys.txt")
    assert (code, "WARNING" in told) == (0, False)
    stranger = Signer(OPERATOR.key.name, b"\x66" * 32).key
    code, told = verify(capsys, exports / "whole", f"--key={stranger}")
    assert (code, "checkpoint_invalid" in told) == (1, True)
    other = f"--key={KEYS.signers('other', 'books')[0].key}"
    assert verify(capsys, exports / "whole", other)[0] == 1


def test_another_form_a_part_and_an_unsealed_export(exports: Path, capsys: Capsys) -> None:
    """Parquet and a part verify as well; what nobody signed only if the auditor says that this is enough."""
    assert verify(capsys, exports / "parquet")[0] == 0
    assert verify(capsys, exports / "first")[0] == 0
    code, told = verify(capsys, exports / "unsealed")
    assert (code, "checkpoint_invalid" in told) == (1, True)
    code, told = verify(capsys, exports / "unsealed", "--unsealed")
    assert (code, "nobody signed" in told) == (0, True)


def test_what_was_kept_from_before_is_compared(exports: Path, tmp_path: Path, capsys: Capsys, books: Books) -> None:
    """An earlier export and an earlier checkpoint agree; one of a longer log is told, and one by another key."""
    (tmp_path / "earlier").write_text(books.history[0])
    against = ["--against", exports / "first", "--against", tmp_path / "earlier", "--against", exports / "parquet"]
    code, told = verify(capsys, exports / "whole", *against)
    assert code == 0
    assert told.count("compared with") == 3
    checkpoint = (exports / "whole" / "books" / names.CHECKPOINT).read_text()
    longer = signed(books.leaves + b"\0" * 32, books.size + 1, OPERATOR)
    forked = signed(books.leaves[32:] + b"\0" * 32, 60, OPERATOR)
    for note, expected, first in (
        (longer, 1, f"position {books.size + 1} of books"), (forked, 1, "between positions"), (checkpoint, 0, ""),
        (signed(books.leaves, 10, Signer(OPERATOR.key.name, b"\x66" * 32)), 1, "not_compared"),
    ):  # fmt: skip
        (tmp_path / "kept").write_text(note)
        code, told = verify(capsys, exports / "whole", "--against", tmp_path / "kept")
        assert (code, first in told) == (expected, True), told


def test_a_line_that_lies_about_its_place_is_named_by_its_own(
    exports: Path, tmp_path: Path, capsys: Capsys, books: Books
) -> None:
    """A line that says it stands elsewhere, and one that is there twice: the line itself comes first."""
    segment = tmp_path / "whole" / "books" / f"{1:012}.ndjson"
    shutil.copytree(exports / "whole", tmp_path / "whole")
    lines = segment.read_bytes().splitlines(keepends=True)
    lying = [*lines[:49], lines[49].replace(b'"position":50', b'"position":5'), *lines[50:]]
    twice = [*lines[:50], lines[49], *lines[50:]]
    for changed, place in ((lying, 50), (twice, 51)):
        segment.write_bytes(b"".join(changed))
        code, told = verify(capsys, tmp_path / "whole")
        assert code == 1
        assert f"position {place} of books" in told.partition("FIRST DIFFERENCE")[2].split("expected")[0], told


def test_the_key_of_one_log_is_that_of_both(exports: Path, capsys: Capsys) -> None:
    """An auditor who was told the books' key needs no other: the same key signs both logs."""
    books_key = KEYS.signers(OPERATOR.key.name.split("/")[-2], "books")[0].key
    assert verify(capsys, exports / "whole", f"--key={books_key}")[0] == 0


def test_wrong_usage_is_told_apart(exports: Path, tmp_path: Path, capsys: Capsys) -> None:
    """Exit code 2: no such path, a key that is none, an option for the other form; 1: a directory that is no export."""
    (tmp_path / "file").write_bytes(b"no proof")
    for args in (
        (tmp_path / "nowhere",), (exports / "whole", "--key", "abc"), (tmp_path / "file", "--unsealed"),
        (tmp_path / "file",), (exports / "whole", "--against", tmp_path / "file"),
    ):  # fmt: skip
        assert verify(capsys, *args)[0] == 2, args
    code, told = verify(capsys, tmp_path)
    assert (code, "file_missing" in told) == (1, True)


# --- files -------------------------------------------------------------------------------------------------


def first_kind(root: Path) -> str:
    """The kind of what is told first."""
    report = verify_directory(Request(root, keys=keys()))
    assert report.result == "DIFFERENT"
    assert set(report.findings_by_kind) <= set(KINDS)
    return report.findings[0].kind


def lines_changed(name: str, change: Callable[[list[Any]], None]) -> Callable[[dict[str, bytes]], None]:
    """Change the JSON lines of a file."""

    def apply(files: dict[str, bytes]) -> None:
        lines = [json.loads(line) for line in files[name].splitlines()]
        change(lines)
        files[name] = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)

    return apply


def _swap_documents(lines: list[Any]) -> None:
    lines[0]["document"], lines[1]["document"] = lines[1]["document"], lines[0]["document"]


def _rehash(lines: list[Any]) -> None:
    """A statement that says something else, with the hash that this has."""
    document = lines[3]["document"].replace('"version":', '"version" :')
    lines[3] |= {"document": document, "hash": sha256(document.encode()).hexdigest()}


BESIDE: dict[str, tuple[str, Callable[[dict[str, bytes]], None]]] = {
    "another balance": (
        "balance_differs", lines_changed(names.BALANCES, lambda lines: lines[2].update(amount=lines[2]["amount"] + 1)),
    ),
    "a balance left out": ("balance_differs", lines_changed(names.BALANCES, lambda lines: lines.pop(2))),
    "a balance twice": ("balance_differs", lines_changed(names.BALANCES, lambda lines: lines.append(lines[2]))),
    "a statement left out": ("statement_missing", lines_changed(names.STATEMENTS, lambda lines: lines.pop(3))),
    "the last statements left out": (
        "statement_missing", lines_changed(names.STATEMENTS, lambda lines: lines.__delitem__(slice(-3, None))),
    ),
    "a statement that nobody issued": (
        "statement_extra", lines_changed(names.STATEMENTS, lambda all_: all_.append(all_[-1] | {"affiliate_id": "x"})),
    ),
    "a statement of another version": (
        "statement_extra", lines_changed(names.STATEMENTS, lambda lines: lines.append(lines[-1] | {"version": 9})),
    ),
    "documents exchanged": ("statement_differs", lines_changed(names.STATEMENTS, _swap_documents)),
    "another document with its hash": ("statement_differs", lines_changed(names.STATEMENTS, _rehash)),
    "a file that is no part": ("file_unlisted", lambda files: files.update({"books/more.ndjson": b"{}\n"})),
}  # fmt: skip


@pytest.mark.parametrize("what", BESIDE)
def test_what_lies_beside_the_log_is_compared_with_it(exports: Path, tmp_path: Path, what: str) -> None:
    """Balances and statements must be those of the log, in both directions, whatever the manifest's hashes say."""
    kind, change = BESIDE[what]
    rewrite(exports / "whole", tmp_path / "export", change, recompute=kind != "file_unlisted")
    assert first_kind(tmp_path / "export") == kind


def test_every_file_is_hashed(exports: Path, tmp_path: Path) -> None:
    """A byte changed anywhere, or a file gone, is found and nothing breaks."""
    draw = random.Random(3)
    whole = exports / "whole"
    paths = sorted(path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file())
    assert f"books/{names.LEAVES}" in paths
    assert f"books/{names.EARLIER}" in paths
    for number in range(120):
        path = draw.choice(paths)

        def change(files: dict[str, bytes], path: str = path) -> None:
            content = bytearray(files[path])
            content[draw.randrange(len(content))] ^= draw.choice((1, 32, 128))
            files[path] = bytes(content)

        rewrite(whole, tmp_path / f"{number}", change, recompute=False)
        report = verify_directory(Request(tmp_path / f"{number}", keys=keys()))
        # a date or a version of the manifest is nobody's but its own
        assert report.result == "DIFFERENT" or path == names.MANIFEST, path
    for path in paths:
        rewrite(whole, tmp_path / f"no-{path}", lambda files: None, recompute=False)
        (tmp_path / f"no-{path}" / path).unlink()
        assert verify_directory(Request(tmp_path / f"no-{path}", keys=keys())).result == "DIFFERENT", path


def test_the_columns_of_parquet_say_what_the_lines_say(exports: Path, tmp_path: Path) -> None:
    """Whoever queries the columns is not lied to while the hashed lines are left alone."""
    segment = names.segment_path("books", 1, names.PARQUET)

    def change(files: dict[str, bytes]) -> None:
        made = tmp_path / "made.parquet"
        source = exports / "parquet" / segment
        duckdb.sql(f"COPY (SELECT * REPLACE (if(position = 33, 'nobody', actor) AS actor) FROM '{source}') TO '{made}'")
        files[segment] = made.read_bytes()

    rewrite(exports / "parquet", tmp_path / "export", change)
    report = verify_directory(Request(tmp_path / "export", keys=keys()))
    assert (report.findings[0].kind, report.findings[0].position) == ("line_unreadable", 33)


# --- what the events say -----------------------------------------------------------------------------------


def edited(books: Books, position: int, /, **changes: Any) -> Books:
    """Another state at a position, and everything signed anew by the operator himself: only sense is left to say no."""
    line = json.loads(books.lines[position - 1])
    for name, value in changes.items():
        where = line if name in line else line["state"]
        if value is None:
            where.pop(name)
        else:
            where[name] = value
    made = json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode()
    lines = [*books.lines[: position - 1], made, *books.lines[position:]]
    made_anew = books._replace(lines=lines, history=[]).recomputed()
    return made_anew._replace(note=signed(made_anew.leaves, made_anew.size, OPERATOR))


def find(books: Books, topic: str, nth: int = 0) -> tuple[int, dict[str, Any]]:
    """The position of an event of a topic, and its line."""
    found = [(n, json.loads(line)) for n, line in enumerate(books.lines, 1) if f'"topic":"{topic}"'.encode() in line]
    return found[nth]


SENSE: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    # what → kind of the finding, topic, which one, what is changed
    "a commission that is not its rate": ("price_differs", "CommissionAccrued", 1, {"amount": 1}),
    "a rate that the terms do not have": ("price_differs", "CommissionAccrued", 0, {"rate_bps": 1001}),
    "a commission due earlier": ("price_differs", "CommissionAccrued", 0, {"matures_at": "2026-01-01T00:00:00Z"}),
    "more taken back": ("price_differs", "ConversionReversed", 0, {"amount": 101}),
    "more approved than is owed": ("price_differs", "ConversionApproved", 1, {"amount": 5}),
    "a decision about nothing": ("life_differs", "ConversionApproved", 0, {"topic": "ConversionReleased"}),
    "a payout of more than was approved": ("life_differs", "PayoutInitiated", 0, {"amount": 1}),
    "a payout settled with less": ("life_differs", "PayoutSettled", 0, {"amount": 1}),
    "an invoice number left out": ("invoice_differs", "InvoiceNumbersTaken", 0, {"first": 2}),
    "one person for both": ("same_person", "AdjustmentPosted", 0, {"actor": "A.N.A"}),
    "one person for a run of payouts": ("same_person", "PayoutRunApproved", 0, {"actor": "ana"}),
    "an approval of nothing": ("life_differs", "PayoutMethodApproved", 0, {"method_version": 7}),
    "a statement with another hash": ("statement_differs", "StatementIssued", 2, {"hash": "0" * 64}),
    "a statement of nobody": ("statement_extra", "StatementIssued", 2, {"affiliate_id": "idle"}),
    "a digest of other statements": ("statement_differs", "StatementsIssued", 0, {"digest": "0" * 64}),
    "fewer statements than there are": ("statement_differs", "StatementsIssued", 1, {"statement_count": 1}),
    "trees of other entries": ("trees_differ", "AffiliateTreesRecorded", 0, {"root": "0" * 64}),
    "an event of an unknown kind": ("topic_unknown", "NoticeQueued", 0, {"topic": "NoticeThrown"}),
    "an amount that is text": ("event_unreadable", "CommissionAccrued", 3, {"amount": "7"}),
    "an amount with a fraction": ("event_unreadable", "AdjustmentPosted", 0, {"amount": 1.5}),
    "a state without its order": ("event_unreadable", "CommissionAccrued", 3, {"order_id": None}),
    "another order in a stream": ("stream_id_differs", "ConversionApproved", 0, {"order_id": "o-bob"}),
    "a version left out": ("stream_version_gap", "ConversionApproved", 0, {"originator_version": 4}),
    "a position left out": ("position_gap", "ConversionApproved", 0, {"position": 5000}),
    "another program's event": ("line_misplaced", "NoticeQueued", 0, {"program_id": "x"}),
    "another log's event": ("line_misplaced", "NoticeQueued", 0, {"log": "traffic"}),
    "a time that falls": ("time_falls", "NoticeQueued", 0, {"recorded_at": "2025-01-01T00:00:00.000000Z"}),
    "a click that is not the one": ("evidence_differs", "CommissionAccrued", -3, {"click_leaf": "0" * 64}),
    "a click of somebody else": ("evidence_differs", "CommissionAccrued", -3, {"affiliate_id": "bob"}),
    "another click's name": ("evidence_differs", "CommissionAccrued", -3, {"click_id": "k8"}),
    "a click of another offer": ("evidence_differs", "CommissionAccrued", -3, {"offer_id": "hats"}),
    "a click at another time": ("evidence_differs", "CommissionAccrued", -3, {"clicked_at": "2026-01-01T00:00:01Z"}),
    "a click without its hash": ("event_unreadable", "CommissionAccrued", -3, {"click_leaf": None}),
    "one person who says that it was done before": (
        "same_person", "PayoutMethodApproved", 0, {"actor": "ana", "reapplied": True},
    ),
    "a version of the line of tomorrow": ("line_unreadable", "NoticeQueued", 0, {"v": 2}),
}  # fmt: skip


@pytest.mark.parametrize("what", SENSE)
def test_what_makes_no_sense_is_found_though_it_is_signed(books: Books, exports: Path, what: str) -> None:
    """With every hash and signature in order, the position of what cannot be is named, and its kind."""
    kind, topic, nth, changes = SENSE[what]
    position, line = find(books, topic, nth)
    if kind == "evidence_differs":
        assert line["state"]["click_leaf"]
    found = read_books(edited(books, position, **changes), keys(), whole=True, traffic=traffic_of(exports))
    told = [(one.kind, one.position) for one in found.in_order()]
    assert (kind, position) in told, told


def traffic_of(exports: Path) -> list[bytes]:
    """The traffic log's lines."""
    return (exports / "whole" / names.segment_path("traffic", 1, names.NDJSON)).read_bytes().split(b"\n")[:-1]


def test_folds_and_books_are_held_against_each_other(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the ledger's folds and the naive books come to other balances, the account is named."""
    right = verifying.transfers

    def wrong(topic: str, state: dict[str, Any]) -> Any:
        moved = right(topic, state)
        return [one._replace(credit="liability:bob:held") for one in moved] if topic == "CommissionAccrued" else moved

    monkeypatch.setattr(verifying, "transfers", wrong)
    found = read_books(books, keys(), whole=True)
    assert {"fold_differs", "statement_differs"} <= set(found.counts)
    assert any("liability:ada:pending" in one.subject for one in found.kept if one.kind == "fold_differs")


# --- what an attacker may write ----------------------------------------------------------------------------


def told_of(root: Path, **more: Any) -> dict[str, list[str]]:
    """What verifying finds: kind → what was found."""
    report = verify_directory(Request(root, **({"keys": keys()} | more)))
    told: dict[str, list[str]] = {}
    for one in report.findings:
        told.setdefault(one.kind, []).append(one.found)
    assert (report.result == "VERIFIED") == (not told)
    assert "\x1b" not in text(report)
    return told


def manifest_says(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, bytes]], None]:
    """Another manifest, whatever its hashes."""

    def apply(files: dict[str, bytes]) -> None:
        manifest = json.loads(files[names.MANIFEST])
        change(manifest)
        files[names.MANIFEST] = json.dumps(manifest).encode()

    return apply


def test_a_kept_checkpoint_that_cannot_be_compared_is_told(exports: Path, tmp_path: Path, books: Books) -> None:
    """A part of the log is not compared with what was kept of more of it, which is no agreement; the checkpoint of the
    export itself is, and one of another history with as many events is found."""
    kept = tmp_path / "kept"
    other = [*books.lines[:100], b"{}", *books.lines[101:]]
    for note, kinds in (
        (signed(books.leaves, 120, OPERATOR), {"not_compared"}), (books.note, set()),
        (signed(verifying.leaf_hashes(other), books.size, OPERATOR), {"root_differs"}),
        (signed(books.leaves + b"\0" * 32, books.size + 1, OPERATOR), {"size_differs"}),
    ):  # fmt: skip
        kept.write_text(note)
        report = verify_directory(Request(exports / "first", keys=keys(), against=[kept]))
        assert set(report.findings_by_kind) == kinds
        assert len(report.compared_with) == (0 if kinds & {"not_compared", "size_differs"} else 1)


def test_an_empty_traffic_log_is_not_believed(exports: Path, tmp_path: Path) -> None:
    """Nobody signs that there were no clicks: the report warns, and a checkpoint of some, or a manifest that knows of
    some, is a finding."""
    report = verify_directory(Request(exports / "first", keys=keys()))
    assert (report.result, "the traffic log is empty" in report.warnings[0]) == ("VERIFIED", True)
    kept = exports / "whole" / "traffic" / names.CHECKPOINT
    report = verify_directory(Request(exports / "first", keys=keys(), against=[kept]))
    assert (report.findings_by_kind, report.compared_with) == ({"size_differs": 1}, [])
    for number, end in enumerate(({"root": ""}, {"checkpoint_size": 10**9}, {"size": -1})):
        to = tmp_path / f"{number}"
        rewrite(exports / "first", to, manifest_says(lambda m, e=end: m["logs"]["traffic"].update(e)), recompute=False)
        assert set(told_of(to, against=[kept])) == {"manifest_unreadable"}


def test_a_witness_who_did_not_sign_is_told(exports: Path) -> None:
    """Whoever names a witness's key wants its signature."""
    public = OPERATOR.key.public
    witness = VerifierKey("witness.example", public, COSIGNATURE_V1)
    assert set(told_of(exports / "whole", keys=[*keys(), witness])) == {"not_cosigned"}


def test_a_retired_key_signs_nothing_that_came_later(exports: Path, books: Books) -> None:
    """`VKEY until SIZE`: a checkpoint of more events is signed by nobody."""
    traffic, size = [key for key in keys() if key != OPERATOR.key], books.size
    assert not told_of(exports / "whole", keys=[*traffic, *read_keys(f"{OPERATOR.key} until {size}\n")])
    told = told_of(exports / "whole", keys=[*traffic, *read_keys(f"{OPERATOR.key} until {size - 1}\n")])
    assert set(told) == {"checkpoint_invalid"}
    for bad in ("until", "until -1", "until 1e3", "since 5"):
        with pytest.raises(InvalidNote):
            read_keys(f"{OPERATOR.key} {bad}")


MANIFESTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a program that steers the terminal": lambda m: m.update(program="firm\x1b[2J\nVERIFIED"),
    "a program of another id": lambda m: m.update(program="other"),
    "an id that is none": lambda m: m.update(program_id="nonsense"),
    "one log only": lambda m: m["logs"].pop("traffic"),
    "more events than can be": lambda m: m["logs"]["books"].update(size=10**30),
    "a file of a log that it is not of": lambda m: m["files"][-1].update(log="nolog"),
    "a segment in another place": lambda m: m["files"][0].update(first=2),
    "a segment longer than any": lambda m: m["files"][0].update(last=10**9),
}


@pytest.mark.parametrize("what", MANIFESTS)
def test_what_a_manifest_cannot_say_is_a_finding(exports: Path, tmp_path: Path, what: str) -> None:
    """Not a traceback, and not a way around the hashes."""
    rewrite(exports / "whole", tmp_path / "export", manifest_says(MANIFESTS[what]), recompute=False)
    assert "manifest_unreadable" in told_of(tmp_path / "export")


def test_an_export_that_calls_itself_unsealed_is_refused(exports: Path, tmp_path: Path) -> None:
    """Though its checkpoints hold: the report must not say VERIFIED and that nobody signed."""
    rewrite(exports / "whole", tmp_path / "export", manifest_says(lambda m: m.update(sealed=False)), recompute=False)
    assert set(told_of(tmp_path / "export")) == {"checkpoint_invalid"}


def test_no_other_file_of_the_machine_is_read(exports: Path, tmp_path: Path) -> None:
    """Symbolic links, pipes, devices and files that grew are told, quickly, and nothing of what they lead to."""
    (tmp_path / "secret").write_text("SECRET-OF-THE-AUDITOR")
    hostile: dict[str, Callable[[Path], object]] = {
        names.segment_path("books", 1, names.NDJSON): lambda path: path.symlink_to(tmp_path / "secret"),
        f"books/{names.CHECKPOINT}": lambda path: path.symlink_to("/dev/zero"),
        f"books/{names.LEAVES}": os.mkfifo,
        names.KEYS: lambda path: path.symlink_to(tmp_path / "secret"),
        names.MANIFEST: os.mkfifo,
        "traffic": lambda path: path.symlink_to(exports / "whole" / "traffic"),
    }
    for number, (name, make) in enumerate(hostile.items()):
        root = tmp_path / f"{number}"
        shutil.copytree(exports / "whole", root)
        shutil.rmtree(root / name) if name == "traffic" else (root / name).unlink()
        make(root / name)
        told = told_of(root, keys=None if name == names.KEYS else keys())
        assert {"file_missing", "manifest_unreadable"} & set(told), name
        assert "SECRET" not in str(told)
    root = tmp_path / "grown"
    shutil.copytree(exports / "whole", root)
    with (root / names.BALANCES).open("ab") as file:
        file.truncate(6 << 30)  # a hole, which takes no room
    assert f"{6 << 30} bytes" in told_of(root)["file_differs"]
    (root / names.MANIFEST).write_bytes(b"[" * 200_000)
    assert set(told_of(root)) == {"manifest_unreadable"}


PARQUET_TRICKS = {
    "more rows than positions": "SELECT * FROM '{0}' UNION ALL SELECT * FROM '{0}'",
    "an instant that is none": "SELECT * REPLACE (TIMESTAMPTZ '290000-01-01' AS recorded_at) FROM '{0}'",
    "a line out of all proportion": "SELECT * REPLACE (repeat('a', 70_000_000) AS line) FROM '{0}' WHERE position < 3"
    " UNION ALL SELECT * FROM '{0}' WHERE position > 2",
    "a position that is text": "SELECT * REPLACE ('x' AS position) FROM '{0}'",
}


@pytest.mark.parametrize("what", PARQUET_TRICKS)
def test_a_table_that_is_none_of_export_lines_is_refused(exports: Path, tmp_path: Path, what: str) -> None:
    """A few bytes of Parquet can stand for gigabytes, and its columns can hold anything."""
    segment = names.segment_path("traffic", 1, names.PARQUET)

    def change(files: dict[str, bytes]) -> None:
        query = PARQUET_TRICKS[what].format(exports / "parquet" / segment)
        duckdb.sql(f"COPY ({query}) TO '{tmp_path / 'made'}' (FORMAT parquet, COMPRESSION zstd)")
        files[segment] = (tmp_path / "made").read_bytes()

    rewrite(exports / "parquet", tmp_path / "export", change)
    assert "line_unreadable" in told_of(tmp_path / "export")


FORMS: dict[str, tuple[str, bytes, bytes]] = {
    "a member twice": ("line_unreadable", b'"topic":', b'"actor":"nobody","topic":'),
    "white space": ("line_unreadable", b'"topic":', b'"topic": '),
    "another escape": ("line_unreadable", b'"topic":"Commission', b'"topic":"\\u0043ommission'),
    "an instant in another form": ("line_unreadable", b'Z","actor"', b'+00:00","actor"'),
    "an amount twice": ("event_unreadable", b'"amount":', b'"amount":987654321,"amount":'),
    "an unknown member": ("event_unreadable", b'"amount":', b'"reapplied":true,"amount":'),
    "white space in the state": ("event_unreadable", b'"state":{', b'"state":{ '),
    "a member that is its default": ("event_unreadable", b'"steps":', b'"held":false,"steps":'),
}


@pytest.mark.parametrize("what", FORMS)
def test_a_line_has_one_form_only(books: Books, what: str) -> None:
    """Two readers must not understand one line differently, though it is sealed."""
    kind, old, new = FORMS[what]
    position, _ = find(books, "CommissionAccrued", 2)
    line = books.lines[position - 1]
    assert old in line
    lines = [*books.lines[: position - 1], line.replace(old, new, 1), *books.lines[position:]]
    made = books._replace(lines=lines, history=[]).recomputed()
    found = read_books(made._replace(note=signed(made.leaves, made.size, OPERATOR)), keys(), whole=True)
    assert (kind, position) in [(one.kind, one.position) for one in found.kept]


def test_text_of_an_export_does_not_steer_the_terminal() -> None:
    """Escapes, line feeds and marks that turn the direction of writing are shown as what they are."""
    finding = Finding(kind="topic_unknown", log="books", position=3, expected="é – 1", found="a\x1b[2J\nVERIFIED\u202e")
    assert finding.sentence().endswith("expected é – 1, found a\\x1b[2J\\nVERIFIED\\u202e")
    assert len(shown("x" * 10**6)) < 3_000


# --- how it is read ----------------------------------------------------------------------------------------


def test_many_buckets_on_disk_and_two_processes_find_the_same(exports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log whose streams do not fit into memory is read in parts that wait on disk, by several processes."""
    request = Request(exports / "whole", keys=keys())
    alone = verify_directory(request)
    monkeypatch.setattr(verifying_streams, "EVENTS_A_BUCKET", 7)
    monkeypatch.setattr(verifying_streams, "MEMORY_BYTES", 1000)
    monkeypatch.setattr(verifying_streams, "FLUSH_BYTES", 100)
    monkeypatch.setattr(verifying, "ALONE_BELOW", 0)
    for processes in (1, 2):
        parted = verify_directory(request._replace(processes=processes))
        assert (parted.result, parted.witnessed) == ("VERIFIED", alone.witnessed)


def test_findings_are_bounded(books: Books) -> None:
    """A log that is wrong everywhere is told by its first differences and counts."""
    lines = [
        re.sub(rb'"recorded_at":"20', b'"recorded_at":"%d' % (40 - n % 2), line) for n, line in enumerate(books.lines)
    ]
    found = read_books(books._replace(lines=lines * 4), keys(), whole=True)
    assert found.total > 300
    assert len(found.kept) < 130
    assert found.first() == min(found.kept, key=lambda one: (one.position == 0, not one.exact, one.position))
