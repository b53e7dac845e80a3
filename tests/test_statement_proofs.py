"""A statement's proof: what holds is believed by both verifiers, and nothing else is."""

from __future__ import annotations

import importlib.util
import json
import random
import re
import struct
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from conftest import fresh_database
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from memory_view import shop
from proof_world import ORIGIN, Forger, audit, compact, key_of, lively_firm, position_of, proof, seal
from statement_world import Firm, open_firm, random_history
from support import T0, Clock, open_ledger
from test_api_statements import Api
from test_cli import Ledger, ledger, ok

from api import statement_proofs as api_proofs
from ledger import closing
from ledger.affiliate_trees import grow, trees
from ledger.audit import merkle, notes
from ledger.audit.affiliate_trees import TreesDiffer, affiliate_leaf
from ledger.audit.keys import SigningKeys
from ledger.audit.merkle import InvalidProof
from ledger.audit.notes import VerifierKey
from ledger.audit.statement_proof import NotAProof, verify
from ledger.audit.statement_rebuilt import DoesNotHold, canonical
from ledger.cli.statement_proof import verify_file
from ledger.domain.errors import NotFound, WrongState
from ledger.domain.period import (
    AffiliateTreesRecorded,
    ClosePeriod,
    FinishClose,
    RecordAffiliateTrees,
    ReissuePeriod,
)
from ledger.projections import periods
from ledger.store import database as store
from ledger.store.database import Database
from ledger.store.embedded import EmbeddedServer

__all__ = ["ledger"]  # the fixture
ONE_PAGE = Path(__file__).parent.parent / "docs" / "verify_statement.py"
KEY = str(key_of())
OTHERS = SigningKeys([b"\x08" * 32], ORIGIN)
Statement = tuple[str, str, int]  # affiliate id, period, version


def load_one_page() -> ModuleType:
    """The one-page verifier, as a module."""
    spec = importlib.util.spec_from_file_location("verify_statement", ONE_PAGE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


one_page = load_one_page()


class World(NamedTuple):
    """A firm, every statement's proof, and its books for a forger."""

    firm: Firm
    files: dict[Statement, bytes]
    books: Forger

    def file(self, affiliate_id: str = "ada", period: str = "2026-02", version: int = 2) -> dict[str, Any]:
        """A proof to play with."""
        found: dict[str, Any] = json.loads(self.files[affiliate_id, period, version])
        return found


@pytest.fixture(scope="module")
def world(server: EmbeddedServer, template: str) -> Iterator[World]:
    """One for all the tests here; they leave it as it is."""
    clock = Clock(T0)
    with fresh_database(server, template) as name, open_ledger(store.urls(server, name), clock) as ledger:
        firm = lively_firm(ledger, clock)
        with ledger.reading(firm.program) as (cur, id_):
            named = [
                (who, one.period, one.version)
                for who in ("ada", "bob", "Zoe", "cy-1", "d.e")
                for one in periods.statements_of(cur, id_, who)
            ]
        yield World(firm, {one: proof(firm, *one) for one in named}, Forger(firm))


def run_one_page(tmp_path: Path, file: bytes, *keys: str) -> tuple[int, str]:
    """(exit code, what it says) of the one-page verifier, as a stranger runs it."""
    path = tmp_path / "proof.json"
    path.write_bytes(file)
    done = subprocess.run(
        [sys.executable, "-I", str(ONE_PAGE), str(path), *keys], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


# --- what holds ------------------------------------------------------------------------------------------------


def test_every_statement_is_proven_and_both_verifiers_say_so(world: World) -> None:
    """Two currencies, late and carried lines, a reissue, payouts sent and come back, months without a line: each of the
    statements is, to the byte, the one that its affiliate reads; all of its entries are in the file."""
    assert {(who, version) for who, period, version in world.files if period == "2026-02"} >= {("ada", 2), ("bob", 1)}
    late = currencies = 0
    for (who, period, version), raw in world.files.items():
        verdict = verify(raw, [key_of()])
        found = world.firm.statement(who, period, version)
        assert (verdict.hash, verdict.was_told) == (found.hash, True)
        assert verdict.line_count == len(world.firm.lines(found))
        shown, key, entries = one_page.verify(json.loads(raw), [KEY])[:3]
        assert (shown["head"], key) == (verdict.head, KEY)
        cut = json.loads(json.loads(raw)["trees_event"]["line"])["state"]["cut_position"]
        moved = {mark.position for mark in world.firm.journal() if mark.affiliate_id == who and mark.position <= cut}
        assert entries == verdict.entry_count == len(moved)
        late += sum(section["late_count"] for section in verdict.head["sections"])
        currencies = max(currencies, len(verdict.head["sections"]))
    assert (late > 2, currencies) == (True, 2)


def test_a_proof_is_the_same_file_whenever_it_is_made(world: World) -> None:
    """It stands on the first checkpoint that covers it, so that two who ask compare files, not words."""
    assert proof(world.firm, "ada", "2026-02", 1) == world.files["ada", "2026-02", 1]
    assert proof(world.firm, "ada", "2026-03") == world.files["ada", "2026-03", 1]


def test_a_stranger_checks_it_on_one_page(world: World, tmp_path: Path) -> None:
    """Python and one package: yes with the key that is trusted, yes with a warning without one, no with another."""
    raw = world.files["bob", "2026-02", 1]
    code, said = run_one_page(tmp_path, raw, KEY)
    assert (code, "BUT" in said) == (0, False), said
    told = (
        "bob, 2026-02, version 1: 8 lines,\nand all of the 6 entries that were recorded up to position 93.\nSigned by "
    )
    assert f"YES: {told}{KEY}\nA later version of the statement may exist.\n" in said
    code, said = run_one_page(tmp_path, raw)
    assert code == 0
    assert re.search(f"BUT that key is only what the file itself says.*\nYES, IF that key is theirs: {told}", said)
    code, said = run_one_page(tmp_path, raw, str(key_of(keys=OTHERS)))
    assert (code, "NO: the checkpoint of ledger.example.com/firm/books is signed by none" in said) == (1, True)


def test_nothing_stands_in_a_file_that_proves_nothing(world: World) -> None:
    """A hash that no proof uses, or a member that is not described, is refused; `ledger verify` is strict there."""
    file = world.file()
    with pytest.raises(DoesNotHold, match="nodes that no proof uses"):
        verify(compact(file | {"nodes": [*file["nodes"], file["nodes"][0]]}).encode(), [key_of()])
    with pytest.raises(NotAProof, match="unknown field `note`"):
        verify(compact(file | {"note": "paid in full"}).encode(), [key_of()])
    with pytest.raises(NotAProof, match="its format is 'else'"):
        verify(compact(file | {"format": "else"}).encode(), [key_of()])


def test_an_affiliate_without_entries_has_no_statement_to_prove(world: World) -> None:
    """And what is not there is called by its name."""
    with pytest.raises(NotFound, match="affiliate idle has no statement for 2026-01"):
        proof(world.firm, "idle", "2026-01")
    with pytest.raises(NotFound, match="no version 2 of a statement for 2026-01"):
        proof(world.firm, "ada", "2026-01", 2)


def test_a_rotated_and_a_witness_key_are_told_apart(world: World) -> None:
    """A file has the keys that signed its checkpoint; another signature beside them changes nothing, and without the
    operator's key among those given the file's own are taken, which is said."""
    both = SigningKeys([b"\x09" * 32, b"\x07" * 32], ORIGIN)
    file = world.books.prove(world.file(), keys=both)
    assert verify(compact(file).encode(), [key_of()]).was_told
    assert one_page.verify(file, [KEY])[1] == KEY
    assert not verify(compact(file | {"keys": [str(key_of(keys=both))]}).encode()).was_told


def cosigned(note: str, name: str = "witness.example") -> tuple[str, str]:
    """(the note with a witness's cosignature, the witness's verifier key)."""
    private = Ed25519PrivateKey.from_private_bytes(b"\x33" * 32)
    key = VerifierKey(name, private.public_key().public_bytes_raw(), notes.COSIGNATURE_V1)
    text = notes.read_note(note).text
    signature = (
        key.key_id + struct.pack(">Q", 1_700_000_000) + private.sign(notes.cosigned_message(text, 1_700_000_000))
    )
    return f"{note}— {name} {notes.to_base64(signature)}\n", str(key)


def test_a_witness_that_is_asked_for_must_have_signed(world: World, tmp_path: Path) -> None:
    """Whoever gives a witness's key wants to know that it saw this checkpoint: without its signature, or with a wrong
    one, both say no and name it. A witness of the file's own choosing is not mentioned."""
    file = world.file()
    note, witness = cosigned(file["checkpoint"])
    seen = compact(file | {"checkpoint": note}).encode()
    assert [key.name for key in verify(seen, [key_of(), notes.read_verifier_key(witness)]).witnesses] == [
        "witness.example"
    ]
    code, said = run_one_page(tmp_path, seen, KEY, witness)
    assert (code, f"Signed by {KEY} and by witness.example\n" in said) == (0, True), said
    code, said = run_one_page(tmp_path, compact(file).encode(), witness, KEY)
    why = f"the witness witness.example did not sign this checkpoint; its key is {witness}"
    assert (code, said) == (1, f"NO: {why}\n")
    for keys in ([witness], [KEY, witness]):
        with pytest.raises(DoesNotHold, match=re.escape(why)):
            verify(compact(file).encode(), [notes.read_verifier_key(key) for key in keys])
    *_, line, _ = note.split("\n")
    raw = bytearray(b64decode(line.split(" ")[2]))
    raw[11] ^= 1  # another second
    forged = compact(file | {"checkpoint": note.replace(line.split(" ")[2], notes.to_base64(bytes(raw)))})
    with pytest.raises(DoesNotHold, match=r"the signature of witness\.example is wrong"):
        verify(forged.encode(), [key_of(), notes.read_verifier_key(witness)])
    assert run_one_page(tmp_path, forged.encode(), KEY, witness)[1] == "NO: the signature of witness.example is wrong\n"
    assert verify(compact(file | {"checkpoint": note, "keys": [KEY, witness]}).encode()).witnesses == []


def test_nothing_of_a_file_moves_the_readers_cursor(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A forger's names with line feeds and escapes arrive as text, on one line, from both; no YES begins a line."""
    yes, file, size = f"\nYES: ada. Signed by {KEY}\x1b[8m\r\x9b2K\u202e", world.file(), len(world.books.lines)
    origin = "ledger.example.com/firm/books\x1b[8m/firm/books"
    forger = notes.Signer(origin, b"\x66" * 32)
    hidden = notes.sign(
        file["checkpoint"].partition("\n\n")[0].replace(f"{ORIGIN}/firm/books", origin) + "\n", [forger]
    )
    assert f"\n{size}\n" in hidden
    files = [
        file | {"program": "firm" + yes},
        file | {"affiliate_id": "ada" + yes},
        file | {"affiliate_id": "ada\n"},
        file | {"period": "2026-02" + yes},
        file | {"format": yes},
        file | {"checkpoint": f"evil{yes}/firm/books\n" + file["checkpoint"].partition("\n")[2]},
        file | {"statement_event": file["statement_event"] | {"line": '{"v":1,"' + yes + '":2}'}},
        file | {"checkpoint": hidden, "keys": [str(forger.key)]},
    ]
    path = tmp_path / "proof.json"
    for one in files:
        path.write_text(compact(one))
        exit_code = verify_file(path)
        code, said = run_one_page(tmp_path, compact(one).encode())
        both = capsys.readouterr()
        assert (exit_code > 0, both.out) == (True, ""), one
        assert code == 1
        for told in (both.err, said):
            assert "\nYES: " not in told
            assert all(letter.isprintable() or letter == "\n" for letter in told), told


def doubled(world: World) -> dict[str, Any]:
    """A line of the log has a member twice: the first for one reader, the last for another."""
    return written(world, lambda line: line.replace(b'"topic":', b'"log":"books","topic":', 1))


def doubled_inside(world: World) -> dict[str, Any]:
    """So has what an event says."""
    return written(world, lambda line: line.replace(b'"state":{', b'"state":{"affiliate_id":"bob",', 1))


def fraction(world: World) -> dict[str, Any]:
    """A number of an event is not plain."""
    return written(world, lambda line: line.replace(b'"state":{', b'"state":{"x":1.5,', 1))


def with_more(world: World) -> dict[str, Any]:
    """A line has a member that lines do not have."""
    return written(world, lambda line: line[:-1] + b',"and":1}')


def out_of_order(world: World) -> dict[str, Any]:
    """A line's members are in another order."""
    return written(world, lambda line: b'{"log":"books",' + line.replace(b'"log":"books",', b"", 1)[1:])


def spaced(world: World) -> dict[str, Any]:
    """A line has white space."""
    return written(world, lambda line: line.replace(b'"v":1', b'"v": 1', 1))


def written(world: World, change: Callable[[bytes], bytes]) -> dict[str, Any]:
    """A line is written otherwise, in a log that is sealed as it is."""
    file, books = world.file(), world.books.copy()
    at = position_of(file["statement_event"])
    books.lines[at - 1] = change(books.lines[at - 1])
    return books.prove(file)


def test_a_file_says_everything_once(world: World, tmp_path: Path) -> None:
    """A member twice is one thing for one reader and another for the next: neither takes a file that has it."""
    raw = world.files["ada", "2026-02", 2].rstrip()
    for twice_ in (
        raw[:-1] + b',"version":2}',
        raw.replace(b'"tree":{', b'"tree":{"index":9,', 1),
        raw.replace(b'"version":2', b'"version":2.0', 1),
        raw.replace(b'"index":', b'"index":NaN,"x":', 1),
    ):
        with pytest.raises(NotAProof, match=r"member twice|is no number that stands in a proof"):
            verify(twice_, [key_of()])
        code, said = run_one_page(tmp_path, twice_, KEY)
        assert (code, bool(re.match("NO: .*(member twice|is no integer)", said))) == (1, True), said


def test_one_page_reads_each_line_a_few_times_however_many_currencies_there_are() -> None:
    """A forged file with a currency a line must not keep the reader waiting for hours."""
    reads = 0

    class Counted(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            nonlocal reads
            reads += 1
            return super().__getitem__(name)

    some = [
        Counted(currency=f"{n:03}", source="adjustment", target="payable", amount=1, late=False) for n in range(300)
    ]
    assert len(one_page.sections_of(some[:100], some)) == 300
    assert reads < 400 * 40


# --- who lies ----------------------------------------------------------------------------------------------------


def left_out(world: World) -> dict[str, Any]:
    """The entry of a late sale is not shown."""
    file = world.file()
    del file["entries"][9]
    return world.books.prove(file)


def cut_short(world: World) -> dict[str, Any]:
    """The last entries are not shown."""
    file = world.file()
    del file["entries"][-3:]
    return world.books.prove(file)


def somebody_elses(world: World) -> dict[str, Any]:
    """An entry of another affiliate is among them; it is in the log."""
    file = world.file()
    file["entries"] = sorted(file["entries"] + world.file("bob", version=1)["entries"][:1], key=position_of)
    return world.books.prove(file)


def invented(world: World) -> dict[str, Any]:
    """An entry says another amount than the log."""
    file = world.file()
    entry = file["entries"][0]
    entry["line"] = entry["line"].replace('"amount":4000', '"amount":4001')
    return file


def twice(world: World) -> dict[str, Any]:
    """An entry is shown twice."""
    file = world.file()
    file["entries"].insert(3, file["entries"][3])
    return world.books.prove(file)


def swapped(world: World) -> dict[str, Any]:
    """Two entries in the wrong order."""
    file = world.file()
    file["entries"][4:6] = file["entries"][5:3:-1]
    return world.books.prove(file)


def reissued(world: World, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Another statement, honestly signed: the log itself has its hash and its sums."""
    file, books = world.file(), world.books.copy()
    document = json.loads(file["statement"])
    change(document)
    file["statement"] = canonical(document)
    hash_ = one_page.sha(file["statement"].encode()).hex()
    books.rewrite(position_of(file["statement_event"]), hash=hash_, sections=document["head"]["sections"])
    return books.prove(file)


def in_statement(world: World) -> dict[str, Any]:
    """The statement that is shown is not the one that was issued."""
    file = world.file()
    file["statement"] = file["statement"].replace('"payable":770', '"payable":771')
    return file


def lied_line(world: World) -> dict[str, Any]:
    """A line says less than its entry."""
    return reissued(world, lambda document: document["lines"][2].update(amount=1))


def lost_line(world: World) -> dict[str, Any]:
    """A line does not stand on it, and is not in its sums."""

    def change(document: dict[str, Any]) -> None:
        lost = document["lines"].pop()
        section = document["head"]["sections"][1]
        section["closing"][lost["target"]] -= lost["amount"]
        section["line_count"] -= 1

    return reissued(world, change)


def moved_line(world: World) -> dict[str, Any]:
    """A line of the month before stands on it once more, and the opening was lowered so that it adds up."""

    def change(document: dict[str, Any]) -> None:
        before = json.loads(world.file(period="2026-01", version=1)["statement"])["lines"]
        line = next(one for one in before if one["currency"] == "GBP" and one["target"] == "payable")
        document["lines"].insert(0, line | {"late": True})
        section = document["head"]["sections"][1]
        section["opening"]["payable"] -= line["amount"]
        section["line_count"] += 1
        section["late_count"] += 1

    return reissued(world, change)


def lied_sum(world: World) -> dict[str, Any]:
    """It closes with less than its lines come to."""
    return reissued(world, lambda document: document["head"]["sections"][1]["closing"].update(payable=1))


def not_late(world: World) -> dict[str, Any]:
    """A late line is not marked."""

    def change(document: dict[str, Any]) -> None:
        next(line for line in document["lines"] if line["late"])["late"] = False

    return reissued(world, change)


def earlier_cut(world: World) -> dict[str, Any]:
    """It claims to know less of the log than its version's cut did."""
    file, books = world.file(), world.books.copy()
    at = position_of(file["statement_event"])
    books.rewrite(at, cut_position=books.state(at)["cut_position"] - 1)
    return books.prove(file)


def other_reissue(world: World) -> dict[str, Any]:
    """The reissue that is shown is of another version."""
    file, books = world.file(), world.books.copy()
    books.rewrite(position_of(file["reissue_event"]), version=3)
    return books.prove(file)


def old_list(world: World) -> dict[str, Any]:
    """The list of entries is complete, but as of the month before."""
    before = world.file(period="2026-01", version=1)
    file = world.file() | {name: before[name] for name in ("trees_event", "tree", "entries")}
    return world.books.prove(file)


def not_canonical(world: World) -> dict[str, Any]:
    """The same statement, written otherwise; that has the hash of the log."""
    file, books = world.file(), world.books.copy()
    file["statement"] += " "
    hash_ = one_page.sha(file["statement"].encode()).hex()
    books.rewrite(position_of(file["statement_event"]), hash=hash_)
    return books.prove(file)


def no_statement_before(world: World) -> dict[str, Any]:
    """The statement before is not shown: then everything would have to stand on this one."""
    return world.books.prove(world.file() | {"previous_statement_event": None})


def false_closing_before(world: World) -> dict[str, Any]:
    """The statement before closed with other sums than this one opens with."""
    file, books = world.file(), world.books.copy()
    at = position_of(file["previous_statement_event"])
    sections = books.state(at)["sections"]
    sections[1]["closing"]["payable"] += 1
    books.rewrite(at, sections=sections)
    return books.prove(file)


def false_node(world: World) -> dict[str, Any]:
    """A hash of a proof is another one."""
    file = world.file()
    file["nodes"][5] = file["nodes"][6]
    return file


def false_place(world: World) -> dict[str, Any]:
    """The affiliate is not where the file says among the affiliates."""
    file = world.file()
    file["tree"]["index"] -= 1
    return file


def other_checkpoint(world: World) -> dict[str, Any]:
    """A checkpoint of the same log, but an earlier one, under the proofs of this one."""
    return world.file() | {"checkpoint": world.books.seal(90)}


def other_log(world: World) -> dict[str, Any]:
    """A checkpoint of another program, signed by the same key."""
    books = world.books.copy()
    books.program = "other"
    return world.file() | {"checkpoint": books.seal()}


def other_key(world: World) -> dict[str, Any]:
    """Somebody else signed the same checkpoint under the same name."""
    return world.books.prove(world.file(), keys=OTHERS)


def other_affiliate(world: World) -> dict[str, Any]:
    """The right file under another affiliate's name."""
    return world.file() | {"affiliate_id": "bob"}


def other_version(world: World) -> dict[str, Any]:
    """The second version's file says that it is the first."""
    return world.file() | {"version": 1, "reissue_event": None}


NOT_IN = r"at position \d+ is not in the log that "
NOT_ALL = "these {} entries are not the complete list that was recorded for ada"
LIES: list[tuple[Callable[[World], dict[str, Any]], str, str]] = [
    (left_out, NOT_ALL.format(15), ""),
    (cut_short, NOT_ALL.format(13), ""),
    (somebody_elses, "moved nothing of ada", NOT_ALL.format(17)),
    (invented, f"the entry {NOT_IN}", ""),
    (twice, r"the entry at position \d+ stands behind", "one is there twice"),
    (swapped, r"the entry at position \d+ stands behind", "not in the order of the log"),
    (in_statement, "the hash of the statement is", "closing, payable: it says 771, and should 770"),
    (lied_line, r"line [\d.]+ of the statement says amount 1, its entry 250", "amount: it says 1, and should 250"),
    (lost_line, r"the statement lacks the line \d+\.1", "the statement's line 10: it says None, and should "),
    (moved_line, "opening GBP payable is 1235, by the statement of 2026-01 it is 5235", "the statement's line 1, "),
    (lied_sum, "closing GBP payable of the statement is 1, by the entries it is 770", "it says 1, and should 770"),
    (not_late, r"line [\d.]+ of the statement says late False, its entry True", "late: it says False, and should True"),
    (earlier_cut, "cut_position of the statement's event is", "the statement's event, cut_position: it says"),
    (other_reissue, "the version of the reissue is 3", "the reissue 2: it says 3, and should 2"),
    (old_list, r"trees were recorded up to position \d+, and the statement goes up to", "lists of entries end before"),
    (not_canonical, "the statement is not in its canonical form", ""),
    (no_statement_before, "lacks the line", "the statement's line 1, "),
    (false_closing_before, "the opening GBP payable is", "closing in GBP of the statement before, payable: it says"),
    (false_node, NOT_IN, ""),
    (false_place, NOT_ALL.format(16), ""),
    (other_checkpoint, NOT_IN, "is not in the log that was sealed|there is no leaf"),
    (other_log, "the checkpoint is of ledger.example.com/other/books, not of the books of firm", ""),
    (other_key, "is signed by none of", ""),
    (other_affiliate, "is no StatementIssued of statement:bob/2026-02", r"at position \d+ 2: it says"),
    (doubled, "is not written as export lines are", "a JSON object has a member twice"),
    (doubled_inside, "a JSON object has a member twice", ""),
    (fraction, "1.5 is no number", "a number that is no integer: 1.5"),
    (with_more, "unknown field `and`", "is not written as export lines are"),
    (out_of_order, "is not written as export lines are", ""),
    (spaced, "is not written as export lines are", ""),
    (other_version, "version of the file is 1, of the statement's event it is 2", "line 10: it says .* should None"),
]  # fmt: skip


@pytest.mark.parametrize(("lie", "why", "on_one_page"), LIES, ids=lambda part: getattr(part, "__name__", ""))
def test_a_lie_is_refused_in_words_by_both(
    world: World, tmp_path: Path, lie: Callable[[World], dict[str, Any]], why: str, on_one_page: str
) -> None:
    """Whoever has the key and writes what they like: the first thing that does not hold is named, exit 1."""
    raw = compact(lie(world)).encode()
    trusted = [key_of(), key_of("other")]
    with pytest.raises(DoesNotHold, match=why):
        verify(raw, trusted)
    path = tmp_path / "proof.json"
    path.write_bytes(raw)
    with pytest.raises(SystemExit, match=f"^NO: (?!the file is malformed).*({on_one_page or why})"):
        one_page.main(str(path), *map(str, trusted))
    if lie in (left_out, invented, lied_line, other_checkpoint):
        code, said = run_one_page(tmp_path, raw, *map(str, trusted))
        assert (code, said[:4]) == (1, "NO: ")


def test_a_false_list_in_the_log_is_the_auditors_to_find(world: World) -> None:
    """What a statement's proof alone cannot show: the operator may record the root of a shorter list and issue a
    statement from that. It stands in the sealed log for ever, and whoever reads the log says so, with the position."""
    file = world.file("Zoe", "2026-01", 1)
    document, kept = json.loads(file["statement"]), json.loads(file["statement"])["lines"][0]
    (section,) = document["head"]["sections"]
    document["lines"].pop()
    section["line_count"] = 1
    section["closing"] |= {"pending": kept["amount"], "payable": 0}
    file["statement"] = canonical(document)
    file["entries"].pop()
    leaf = affiliate_leaf("Zoe", 1, merkle.leaf_hash(file["entries"][0]["line"].encode()))
    books, at = world.books.copy(), position_of(file["trees_event"])
    books.rewrite(at, affiliate_count=1, root=leaf.hex())
    books.rewrite(
        position_of(file["statement_event"]),
        hash=one_page.sha(file["statement"].encode()).hex(),
        sections=document["head"]["sections"],
    )
    file = books.prove(file | {"tree": {"index": 0, "proof": []}})
    assert verify(compact(file).encode(), [key_of()]).entry_count == 1
    assert one_page.verify(file, [KEY])[2] == 1
    assert audit(world.books.lines) == 4
    with pytest.raises(TreesDiffer, match="2026-01: affiliate_count: expected 5, found 1") as differs:
        audit(books.lines)
    assert differs.value.position == at
    without = [line for line in world.books.lines if b'"AffiliateTreesRecorded"' not in line]
    assert audit(without) == 0  # a log from before there were any
    first = world.books.lines[at - 1]
    with pytest.raises(TreesDiffer, match="of period 2026-02: expected AffiliateTreesRecorded, found none"):
        audit([line for line in world.books.lines if line == first or b'"AffiliateTreesRecorded"' not in line])


# --- recording -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [3, 4])
def test_the_trees_grow_from_cut_to_cut_as_an_auditor_makes_them_at_once(database: Database, seed: int) -> None:
    """Random months: each recorded root is the one that the log leads to; growing again, and from nothing, gives the
    same."""
    with open_firm(database) as firm:
        closed = random_history(firm, seed)
        firm.sell("forgotten", 5_000, at=firm.cut(closed[-1]).ends_at - timedelta(days=1))
        firm.reissue(closed[-1])
        assert audit(Forger(firm).lines) == len(closed) + 1
        with firm.ledger.writing(firm.program) as (cur, id_):
            cut = firm.cut(closed[-1])
            again = grow(cur, id_, cut)
            known = trees(cur, id_, cut.position)
            from_nothing = grow(cur, id_, cut._replace(position=min(firm.cut(one).position for one in closed)))
        assert (again.affiliate_count, again.entry_count) == (len(known), sum(tree.size for tree in known))
        assert from_nothing.entry_count < again.entry_count
        events = [json.loads(line) for line in Forger(firm).lines]
        recorded = [one["state"] for one in events if one["topic"] == "AffiliateTreesRecorded"]
        assert recorded[-1]["root"] == again.root
        assert recorded[0]["root"] == from_nothing.root


def test_an_affiliate_without_new_entries_needs_no_new_row(world: World) -> None:
    """Three closed months and a reissue: whoever sold in the first one only has one tree."""
    with world.firm.ledger.reading(world.firm.program) as (cur, id_):
        cur.execute("SELECT affiliate_id, count(*) FROM affiliate_trees WHERE program_id = %s GROUP BY 1", (id_,))
        assert dict(cur) == {"ada": 4, "bob": 2, "Zoe": 1, "cy-1": 1, "d.e": 1}


def test_a_root_is_recorded_once_a_version() -> None:
    """Again the same changes nothing, another root is refused, and so is one when all statements are out."""
    view = shop()
    view.when(ClosePeriod(period="2026-01"))
    made = AffiliateTreesRecorded(
        period="2026-01", version=1, cut_position=9, affiliate_count=2, entry_count=3, root="ab" * 32
    )
    record = RecordAffiliateTrees(trees=made)
    assert view.again(record).body == {"period": "2026-01", "version": 1, "root": "ab" * 32}
    other = AffiliateTreesRecorded(
        period="2026-01", version=1, cut_position=9, affiliate_count=2, entry_count=4, root="cd" * 32
    )
    assert "not those that were recorded" in view.refused(WrongState, RecordAffiliateTrees(trees=other)).message
    view.when(FinishClose(period="2026-01", version=1, statement_count=0, line_count=0, totals=[], digest="0" * 64))
    view.again(record)
    view.when(ReissuePeriod(period="2026-01", version=2, reason="late"))
    assert "has no version 1" in view.refused(NotFound, record).message
    view.when(FinishClose(period="2026-01", version=2, statement_count=0, line_count=0, totals=[], digest="0" * 64))
    second = AffiliateTreesRecorded(
        period="2026-01", version=2, cut_position=19, affiliate_count=2, entry_count=3, root="ab" * 32
    )
    assert "all issued already" in view.refused(WrongState, RecordAffiliateTrees(trees=second)).message


def test_periods_closed_before_there_were_trees_are_proven_by_a_later_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then, and until it is sealed, the answer says what to wait for. A later list has more entries than the
    statement knows; those are shown, and are not on it."""
    with open_firm(database) as firm:
        firm.sell("a", 10_000)
        firm.clock.now = datetime(2026, 2, 2, tzinfo=UTC)
        with monkeypatch.context() as older:
            older.setattr(closing, "_record_trees", lambda *_: None)
            firm.close("2026-01")
        seal(firm)
        with pytest.raises(WrongState, match="can be made once the next period is closed"):
            proof(firm, "ada", "2026-01")
        firm.approve_due()
        firm.clock.now = datetime(2026, 3, 2, tzinfo=UTC)
        firm.close("2026-02")
        with pytest.raises(WrongState, match=r"not sealed up to position \d+ yet: try again"):
            proof(firm, "ada", "2026-01")
        seal(firm)
        raw = proof(firm, "ada", "2026-01")
        verdict = verify(raw, [key_of()])
        assert (verdict.entry_count, verdict.line_count) == (2, 1)
        assert one_page.verify(json.loads(raw), [KEY])[2] == 2
        assert audit(Forger(firm).lines) == 1


# --- 100,000 mutations -----------------------------------------------------------------------------------------


def mutated(draw: random.Random, value: Any) -> Any:
    """A JSON value with one random change at a random place."""
    if isinstance(value, dict):
        name = draw.choice(sorted(value))
        if draw.random() < 0.05:
            return {key: one for key, one in value.items() if key != name}
        return value | {name: mutated(draw, value[name])}
    if isinstance(value, list) and value:
        at, other = draw.randrange(len(value)), draw.randrange(len(value))
        made = list(value)
        match draw.randrange(8):
            case 0:
                del made[at]
            case 1:
                made.insert(other, made[at])
            case 2:
                made[at], made[other] = made[other], made[at]
            case 3:
                del made[at:]
            case _:
                made[at] = mutated(draw, made[at])
        return made
    if isinstance(value, str) and value:
        at = draw.randrange(len(value))
        return value[:at] + draw.choice(("", chr(draw.randrange(32, 127)), value[at] * 2)) + value[at + 1 :]
    if isinstance(value, int):
        return draw.choice((value + 1, value - 1, -value, 0, str(value), value + 0.5, None, 10**30))
    return draw.choice((0, [], {}, "", {"line": "{}", "proof": []}))


def meaning(file: dict[str, Any]) -> dict[str, Any]:
    """What a file says: hashes instead of their numbers. Keys that are not used say nothing."""
    nodes = [b64decode(node) for node in file["nodes"]]

    def said(one: Any) -> Any:
        if isinstance(one, dict) and "proof" in one:
            return one | {"proof": [nodes[n] if isinstance(n, int) else b64decode(n) for n in one["proof"]]}
        return [said(item) for item in one] if isinstance(one, list) else one

    *text, signature = file["checkpoint"].rstrip("\n").split(" ")
    return {name: said(one) for name, one in file.items() if name not in ("nodes", "keys", "checkpoint")} | {
        "checkpoint": [*text, b64decode(signature)]
    }


@pytest.fixture
def signatures_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same signature of the same text is checked once: most mutations leave it as it is, and it takes longest."""
    monkeypatch.setattr(notes, "_check", lru_cache(notes._check))

    class Remembering:
        """Ed25519 public keys that know what they have said."""

        @staticmethod
        @lru_cache(4096)
        def from_public_bytes(public: bytes) -> Any:
            return Remembered(public)

    class Remembered:
        def __init__(self, public: bytes) -> None:
            self.key = real.from_public_bytes(public)
            self.verify = lru_cache(self.key.verify)

    real = one_page.Ed25519PublicKey
    monkeypatch.setattr(one_page, "Ed25519PublicKey", Remembering)


@pytest.mark.usefixtures("signatures_once")
def test_of_mutated_files_none_is_believed(world: World) -> None:
    """Random changes of bytes and of JSON anywhere in a file: whatever says something else is refused by both."""
    draw = random.Random(7)
    originals = [world.files[name] for name in (("d.e", "2026-01", 1), ("Zoe", "2026-02", 1), ("bob", "2026-02", 1))]
    believed = 0
    for count in range(4_000):
        raw = draw.choice(originals)
        original = json.loads(raw)
        if count % 4 == 0:
            at = draw.randrange(len(raw))
            raw = raw[:at] + bytes([raw[at] ^ 1 << draw.randrange(7)]) + raw[at + 1 :]
        else:
            raw = compact(mutated(draw, original)).encode("utf-8", "replace")
        for believe in (believed_by_package, *(() if count % 3 else (believed_on_one_page,))):
            if believe(raw):
                assert meaning(json.loads(raw)) == meaning(original), raw
                believed += 1
    assert believed < 400  # in keys, in white space, or a swap of one with itself


def believed_by_package(raw: bytes) -> bool:
    try:
        verify(raw, [key_of()])
    except (NotAProof, DoesNotHold):
        return False
    return True


def believed_on_one_page(raw: bytes) -> bool:
    try:
        one_page.verify(json.loads(raw), [KEY])[:3]
    except Exception:  # as its main() does
        return False
    return True


def test_of_mutated_inclusion_proofs_none_is_believed(world: World) -> None:
    """96,000 times a leaf, its place, or a hash of its proof is another one, dropped, doubled or swapped."""
    draw = random.Random(8)
    leaves = world.books.leaves()
    node, size, root = merkle.nodes_from_leaves(leaves), len(leaves), merkle.root_of(leaves)
    proofs = [merkle.inclusion_proof(index, size, node) for index in range(size)]
    believed = 0
    for _ in range(96_000):
        index = draw.randrange(size)
        leaf, place, path = changed(draw, leaves[index], index, proofs[index])
        try:
            merkle.verify_inclusion(leaf, place, size, path, root)
        except InvalidProof:
            continue
        believed += 1
        assert (leaf, place, path) == (leaves[index], index, proofs[index])
    assert believed < 6_000  # swapped with itself, or with its equal


def changed(draw: random.Random, leaf: bytes, index: int, path: list[bytes]) -> tuple[bytes, int, list[bytes]]:
    """The same with one change."""
    at, other, made = draw.randrange(len(path)), draw.randrange(len(path)), list(path)
    match draw.randrange(7):
        case 0:
            return flipped(draw, leaf), index, made
        case 1:
            return leaf, draw.choice((index + 1, index - 1, index ^ 1 << draw.randrange(8))), made
        case 2:
            made[at] = flipped(draw, made[at])
        case 3:
            del made[at]
        case 4:
            made.insert(other, made[at])
        case 5:
            made[at], made[other] = made[other], made[at]
        case 6:
            leaf, made[at] = made[at], leaf
    return leaf, index, made


def flipped(draw: random.Random, hash_: bytes) -> bytes:
    """One bit is another."""
    return (int.from_bytes(hash_) ^ 1 << draw.randrange(256)).to_bytes(32)


# --- where it is had -------------------------------------------------------------------------------------------


def test_the_api_gives_it_to_its_affiliate_and_to_staff(world: World) -> None:
    """The same file as on the command line; not sealed yet, or not there, is said."""
    api = Api(world.firm)
    path = "/affiliates/ada/statements/2026-02/proof"
    for role in api.tokens:
        answer = api.get(path, role)
        assert (answer.status_code, answer.data) == (200, world.files["ada", "2026-02", 2])
    assert answer.headers["Content-Disposition"] == 'attachment; filename="proof-firm-ada-2026-02.json"'
    assert api.get(f"{path}?version=1").data == world.files["ada", "2026-02", 1]
    assert api.get("/affiliates/bob/statements/2026-02/proof").status_code == 404
    assert api.get("/affiliates/ada/statements/2025-12/proof").status_code == 404


def test_the_api_makes_one_proof_at_a_time_for_a_key(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks again meanwhile is told to wait; others are served, and so is the first, within a minute a query."""
    api, path, real = Api(world.firm), "/affiliates/ada/statements/2026-02/proof", api_proofs.statement_proof
    first, *others = api.tokens
    meanwhile: list[tuple[int, str | None]] = []

    def slow(*asked: Any) -> Iterator[bytes]:
        assert asked[-1] == "60s"
        if not meanwhile:
            meanwhile.append((0, None))
            for role in (first, others[0]):
                answer = api.get(path, role)
                meanwhile.append((answer.status_code, answer.headers.get("Retry-After")))
        return real(*asked)

    monkeypatch.setattr(api_proofs, "statement_proof", slow)
    assert api.get(path, first).status_code == 200
    assert meanwhile[1:] == [(429, "1"), (200, None)]
    assert api.get(path, first).status_code == 200


def test_the_verbs_make_and_check_it(ledger: Ledger, database: Database, tmp_path: Path) -> None:
    """From `proof statement` to `verify`: yes, yes but whose key, no, and what is no proof at all."""
    with open_firm(database) as firm:
        firm.sell("a", 100_000)
        firm.clock.now = datetime(2026, 2, 2, tzinfo=UTC)
        firm.close("2026-01")
        early = ledger("proof", "statement", "ada", "2026-01", "-p", "firm")
        assert (early.code, "is not sealed up to position" in early.err) == (1, True)
        seal(firm)
    path = tmp_path / "ada.json"
    ok(ledger("proof", "statement", "ada", "2026-01", "-p", "firm", "--to", str(path)))
    assert ok(ledger("proof", "statement", "ada", "2026-01", "-p", "firm")).encode() == path.read_bytes()
    said = ok(ledger("verify", str(path), "--key", KEY))
    assert said.startswith("YES: the statement of ada for 2026-01, version 1, is what the sealed books of firm say.")
    assert "GBP  pending     0.00   100.00" in said
    assert "BUT" not in said
    assert "A later version may exist." in said
    assert "entries of ada that were recorded up to position" in said
    said = ok(ledger("verify", str(path)))
    assert said.index("BUT whose key that is, only the file itself says") < said.index(
        "YES, IF that key is theirs: the"
    )
    told = json.loads(ok(ledger("verify", str(path), "--json", "-")))
    assert (told["holds"], told["key_was_given"], told["entry_count"]) == (True, False, 1)
    other = ledger("verify", str(path), "--key", str(key_of(keys=OTHERS)))
    assert (other.code, ": NO: the checkpoint of" in other.err) == (1, True)
    path.write_text("{}")
    assert ledger("verify", str(path)).code == 2
