"""A proof that lies about a statement is refused by both verifiers, in words that name the lie."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from proof_world import audit, compact, key_of, position_of
from statement_proof_world import KEY, OTHERS, World, one_page, run_one_page, world
from test_cli import ledger

from ledger.audit import merkle
from ledger.audit.affiliate_trees import TreesDiffer, affiliate_leaf
from ledger.audit.statement_proof import verify
from ledger.audit.statement_rebuilt import DoesNotHold, canonical

__all__ = ["ledger", "world"]  # the fixtures


# --- nothing is said twice -----------------------------------------------------------------------------------


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
