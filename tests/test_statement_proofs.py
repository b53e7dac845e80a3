"""A statement's proof: what holds is believed by both verifiers, and nothing else is."""

from __future__ import annotations

import json
import re
import struct
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from memory_view import shop
from proof_world import ORIGIN, Forger, audit, compact, key_of, proof, seal
from statement_proof_world import KEY, OTHERS, World, one_page, run_one_page, world
from statement_world import open_firm, random_history
from test_api_statements import Api
from test_cli import Ledger, ledger, ok

from api import statement_proofs as api_proofs
from ledger import closing
from ledger.affiliate_trees import grow, trees
from ledger.audit import notes
from ledger.audit.keys import SigningKeys
from ledger.audit.notes import VerifierKey
from ledger.audit.statement_proof import NotAProof, verify
from ledger.audit.statement_rebuilt import DoesNotHold
from ledger.cli.statement_proof import verify_file
from ledger.domain.errors import NotFound, WrongState
from ledger.domain.period import (
    AffiliateTreesRecorded,
    ClosePeriod,
    FinishClose,
    RecordAffiliateTrees,
    ReissuePeriod,
)
from ledger.store.database import Database

__all__ = ["ledger", "world"]  # the fixtures


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
