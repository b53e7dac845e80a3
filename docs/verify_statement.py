"""Is this statement what the sealed ledger says, with nothing left out?  python verify_statement.py FILE [KEY …]

FILE is a statement's proof, KEY the operator's public key as you know it from elsewhere, or that of a witness who must
have signed as well. Offline; needs Python 3.11 and the package `cryptography`. Says yes (exit 0; without the operator's
KEY: yes, if the key in the file is theirs), or no and why (1). docs/statement-proofs.md tells what each step is for.
"""

import json
import re
import sys
from base64 import b64decode
from datetime import datetime
from hashlib import sha256
from itertools import zip_longest
from uuid import NAMESPACE_URL, uuid5

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

# The members of a line of the log, in this order: docs/export-line.md.
MEMBERS = ["v", "program_id", "log", "position", "originator_id", "originator_version", "topic", "recorded_at",
           "actor", "key_id", "request_id", "cause", "state"]  # fmt: skip
BUCKETS = ("pending", "held", "payable", "in_transit", "paid")


class No(Exception):
    """What does not hold."""


def check(holds, why):
    if not holds:
        raise No(why)


def loads(text):
    """A JSON value that everybody reads alike: no member twice, no fraction, no NaN."""

    def once(pairs):
        check(len(dict(pairs)) == len(pairs), "a JSON object has a member twice")
        return dict(pairs)

    def never(number):
        raise No(f"there is a number that is no integer: {number}")

    return json.loads(text, object_pairs_hook=once, parse_float=never, parse_constant=never)


def dumps(value, **options):
    """JSON as the ledger writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, **options)


def same(where, found, expected):
    """The first difference between two JSON values, if any, is what does not hold."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for name in sorted(found.keys() | expected.keys()):
            same(f"{where}, {name}", found.get(name), expected.get(name))
    elif isinstance(found, list) and isinstance(expected, list):
        for number, (one, other) in enumerate(zip_longest(found, expected), 1):
            same(f"{where} {number}", one, other)
    else:
        check((type(found), found) == (type(expected), expected), f"{where}: it says {found}, and should {expected}")


def sha(*parts):
    return sha256(b"".join(parts)).digest()


def root_of(leaves):
    """The root of a Merkle tree (RFC 9162, 2.1.1)."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha()
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return sha(b"\x01", root_of(leaves[:half]), root_of(leaves[half:]))


def root_by(leaf, index, size, proof):
    """The root that an inclusion proof leads to (RFC 9162, 2.1.3.2)."""
    check(type(index) is int and 0 <= index < size, f"there is no leaf {index} in a tree of {size}")
    first, last, found = index, size - 1, leaf
    for other in proof:
        check(last, "a proof is too long")
        if first % 2 or first == last:
            found = sha(b"\x01", other, found)
            while first and first % 2 == 0:
                first, last = first // 2, last // 2
        else:
            found = sha(b"\x01", found, other)
        first, last = first // 2, last // 2
    return None if last else found


def read_key(line):
    """(name, id, algorithm, public key) of a verifier key (C2SP signed-note). 1: an operator's; 4: a witness's."""
    parts = re.fullmatch(r"([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})", line)
    check(parts, "one of the keys is none: a verifier key is one line, name+hash+base64")
    name, key_id, public = parts[1], bytes.fromhex(parts[2]), b64decode(parts[3])
    right = sha(name.encode(), b"\n", public)[:4] == key_id and public[0] in (1, 4) and name.isprintable()
    check(right, "one of the keys is none: it has another's hash, an unknown algorithm, or a name that cannot be shown")
    return name, key_id, public[0], public[1:]


def has_signed(key, text, signatures):
    """Whether a key signed a note's text (C2SP signed-note, tlog-cosignature)."""
    name, key_id, algorithm, public = read_key(key)
    for dash, signer, signature in (line.split(" ") for line in signatures.split("\n")[:-1]):
        signature, message = b64decode(signature), text.encode()
        if (dash, signer, signature[:4]) == ("—", name, key_id):
            signature = signature[4:]
            if algorithm == 4:  # a witness also signs when it saw the text, in seconds since 1970
                seconds, signature = int.from_bytes(signature[:8]), signature[8:]
                message = f"cosignature/v1\ntime {seconds}\n".encode() + message
            try:
                Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
            except InvalidSignature:
                raise No(f"the signature of {name} is wrong") from None
            return True
    return False


def open_checkpoint(note, trusted, own, program):
    """(size, root, key) of a checkpoint (C2SP tlog-checkpoint) that every witness of the reader's signed, and the
    operator by a key that the reader trusts; or, if they have none, by one of the file's own."""
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    origin, size, root = text.split("\n")[:3]
    check(f"/{origin}".endswith(f"/{program}/books"), f"the checkpoint is of {origin}, not of the books of {program}")
    for key in trusted:
        name, _, algorithm, _ = read_key(key)
        holds = algorithm == 1 or has_signed(key, text, signatures)
        check(holds, f"the witness {name} did not sign this checkpoint; its key is {key}")
    known = {key: read_key(key)[0] for key in [one for one in trusted if read_key(one)[2] == 1] or own}
    for key, name in known.items():
        if name == origin and read_key(key)[2] == 1 and has_signed(key, text, signatures):
            return int(size), b64decode(root), key
    raise No(f"the checkpoint of {origin} is signed by none of its known keys (known: {', '.join(known.values())})")


def moves(topic, state):
    """(from, to, amount) of each journal line of an event, as its affiliate reads it: the ledger's posting rules."""
    amount, vat, tax = state.get("amount", 0), state.get("vat_amount", 0), state.get("withholding_amount", 0)
    sent = [("payable", "in_transit", state.get("gross_amount", amount)),
            ("vat", "in_transit", vat), ("in_transit", "withholding", tax)]  # fmt: skip
    settled = [("in_transit", "paid", amount), ("bank_fee", "bank", state.get("fee_amount", 0))]
    at = "in_transit" if topic == "PayoutFailed" else "paid"
    back = [(at, "payable", amount), (at, "vat", vat), ("withholding", at, tax)]
    made = {
        "CommissionAccrued": [("commission", "held" if state.get("held") else "pending", amount)],
        "CommissionRepriced": [
            ("commission", state.get("bucket"), amount) if amount > 0 else (state.get("bucket"), "commission", -amount)
        ],
        "ConversionHeld": [("pending", "held", amount)],
        "ConversionReleased": [("held", "pending", amount)],
        "ConversionApproved": [("pending", "payable", amount)],
        "ConversionRejected": [("held" if state.get("was_held") else "pending", "commission", amount)],
        "ConversionReversed": [(state.get("bucket"), "commission", 0 if state.get("bucket") == "none" else amount)],
        "AdjustmentPosted": [("adjustment", "payable", amount) if amount > 0 else ("payable", "adjustment", -amount)],
        "PayoutInitiated": sent,
        "PayoutSettled": (sent if state.get("after_failure") else []) + settled,
        "PayoutFailed": back,
        "PayoutReturned": back,
    }
    return [line for line in made.get(topic, []) if line[2]]


def lines_of(event, state, who):
    """An affiliate's lines of an event, as they stand on a statement."""
    check(state.get("affiliate_id") == who, f"the {event['topic']} at position {event['position']} is not of {who}")
    for number, (source, target, amount) in enumerate(moves(event["topic"], state), 1):
        check(type(amount) is int, f"the {event['topic']} at position {event['position']} moves {amount!r}")
        if source != "bank_fee":  # the program's own cost
            yield {
                "amount": amount, "currency": state["currency"], "event": event["topic"], "line_no": number,
                "effective_at": state["occurred_at" if event["topic"] == "CommissionAccrued" else "effective_at"],
                "position": event["position"], "recorded_at": event["recorded_at"].replace(".000000Z", "Z"),
                "reference": state.get("order_id") or state.get("adjustment_id") or state.get("payout_id") or "",
                "source": source, "target": target,
            }  # fmt: skip


def knows(limits, line):
    """Whether a line was recorded up to a cut, and happened before it."""
    is_before = datetime.fromisoformat(line["effective_at"]) < datetime.fromisoformat(limits["ends_at"])
    return is_before and line["position"] <= limits["cut_position"]


def balance(lines):
    """What lines leave in each of an affiliate's buckets."""
    return {b: sum(line["amount"] * ((line["target"] == b) - (line["source"] == b)) for line in lines) for b in BUCKETS}


def sections_of(old, new):
    """A section a currency. old: the lines that the statement before knew; new: the statement's own."""
    found = {}
    for part, lines in enumerate((old, new)):
        for line in lines:
            found.setdefault(line["currency"], ([], []))[part].append(line)
    return [{"currency": currency, "opening": balance(olds), "closing": balance(olds + news),
             "line_count": len(news), "late_count": sum(line["late"] for line in news)}
            for currency, (olds, news) in sorted(found.items())]  # fmt: skip


def verify(file, trusted=()):
    """(statement, key that signed, number of entries, position up to which they were recorded). Raises No; or
    anything, for a file that is malformed."""
    check(file["format"] == "commission-ledger-statement-proof/1", "the file has another format")
    who, period, version, text = file["affiliate_id"], file["period"], file["version"], file["statement"]
    for name in ("program", "affiliate_id", "period"):  # a line feed in one would make two hashed texts the same
        check(re.fullmatch(r"[A-Za-z0-9._-]{1,64}", file[name]), f"the file's {name} is no id")
    program_id = uuid5(uuid5(NAMESPACE_URL, "commission-ledger"), f"program:{file['program']}")
    size, root, key = open_checkpoint(file["checkpoint"], trusted, file["keys"], file["program"])

    def read(one, topic="entry", stream=""):
        """(event, what it says, leaf hash) of a line that is in the sealed log."""
        event, leaf = loads(one["line"]), sha(b"\x00", one["line"].encode())
        proof = [b64decode(file["nodes"][n]) for n in one["proof"]]
        what = f"the {topic} at position {event['position']}"
        outer = dumps({name: event[name] for name in MEMBERS[:-1]})[:-1] + ',"state":{'
        check(list(event) == MEMBERS and one["line"].startswith(outer), f"{what} is not written as export lines are")
        check(root_by(leaf, event["position"] - 1, size, proof) == root, f"{what} is not in the log that was sealed")
        same(what, [event[name] for name in ("v", "program_id", "log")], [1, str(program_id), "books"])
        if stream:
            same(what, [event["topic"], event["originator_id"]], [topic, str(uuid5(program_id, stream))])
        return event, event["state"], leaf

    # 1. What the sealed log says of this statement, of its period's cut, and of the statement before it.
    _, issued, _ = read(file["statement_event"], "StatementIssued", f"statement:{who}/{period}")
    cut, closed, _ = first_cut, *_ = read(file["period_event"], "PeriodClosed", "calendar:periods")
    if version != 1 or file["reissue_event"] is not None:
        cut, reissued, _ = read(file["reissue_event"], "PeriodReissued", "calendar:periods")
        same("the reissue", [reissued["period"], reissued["version"]], [period, version])
    limits = {"cut_position": cut["position"], "ends_at": closed["ends_at"]}
    starts_at, before = closed.get("starts_at"), {"cut_position": 0, "ends_at": closed["ends_at"], "sections": []}
    if file["previous_statement_event"] is not None:
        earlier = loads(file["previous_statement_event"]["line"])["state"]["period"]
        _, before, _ = read(file["previous_statement_event"], "StatementIssued", f"statement:{who}/{earlier}")
        is_earlier = datetime.fromisoformat(before["ends_at"]) <= datetime.fromisoformat(starts_at)
        check(is_earlier and before["cut_position"] < cut["position"], f"the statement of {earlier} is no earlier one")

    # 2. The entries: in the log, and together the complete list whose root was recorded there.
    entries = [read(one) for one in file["entries"]]
    positions = [event["position"] for event, _, _ in entries]
    check(positions == sorted(set(positions)), "the entries are not in the order of the log, or one is there twice")
    _, trees, _ = read(file["trees_event"], "AffiliateTreesRecorded", "calendar:periods")
    check(trees["cut_position"] >= cut["position"], "the recorded lists of entries end before the statement does")
    mine = f"{who}\n{len(entries)}\n{root_of([leaf for _, _, leaf in entries]).hex()}\n"
    place = [b64decode(node) for node in file["tree"]["proof"]]
    found = root_by(sha(b"\x00", mine.encode()), file["tree"]["index"], trees["affiliate_count"], place)
    complete = found == bytes.fromhex(trees["root"])
    check(complete, f"these {len(entries)} entries are not the complete list that was recorded for {who}")

    # 3. The statement made again from the entries: it must come out to the byte, and be the one that was issued.
    # Nothing is late on the statements of a program's first period.
    late_before = None if first_cut["originator_version"] == 1 else datetime.fromisoformat(starts_at)
    known = [line for event, state, _ in entries for line in lines_of(event, state, who) if knows(limits, line)]
    lines = [line | {"late": late_before is not None and datetime.fromisoformat(line["effective_at"]) < late_before}
             for line in known if not knows(before, line)]  # fmt: skip
    sections, shown = sections_of([line for line in known if knows(before, line)], lines), loads(text)
    openings = {section["currency"]: section["opening"] for section in sections}
    for one in before["sections"]:
        same(f"the closing in {one['currency']} of the statement before", one["closing"], openings.get(one["currency"]))
    head = {"affiliate_id": who, "ends_at": closed["ends_at"], "period": period, "position": cut["position"],
            "program": file["program"], "sections": sections, "starts_at": starts_at, "version": version,
            "zone": shown["head"]["zone"]}  # fmt: skip
    same("the statement's line", shown["lines"], lines)
    same("the statement", shown, {"head": head, "lines": lines})
    check(dumps(shown, sort_keys=True) == text, "the statement is not in its canonical form")
    event = {"affiliate_id": who, "period": period, "version": version, "sections": sections,
             "starts_at": starts_at, "hash": sha(text.encode()).hex()} | limits  # fmt: skip
    same("the statement's event", issued, event)
    return shown, key, len(entries), trees["cut_position"]


def plain(text):
    """Text as a terminal may show it: whoever made the file chose its names, and could move the cursor with one."""
    return text[:2000].encode("unicode_escape").decode()


def main(path, *trusted):
    try:
        with open(path, "rb") as file:
            shown, key, entries, recorded_to = verify(loads(file.read().decode()), trusted)
    except OSError as problem:
        sys.exit(plain(f"the file cannot be read: {problem}"))
    except Exception as problem:  # whatever goes wrong, it is not proven
        sys.exit(plain(f"NO: {problem if isinstance(problem, No) else f'the file is malformed: {problem!r}'}"))
    head, was_told = shown["head"], any(read_key(one)[2] == 1 for one in trusted)
    if not was_told:
        print(plain(f"The checkpoint is signed by {key},"))
        print("BUT that key is only what the file itself says: ask the operator for theirs, and give it as KEY")
    which = f"{head['affiliate_id']}, {head['period']}, version {head['version']}"
    print(plain(f"{'YES' if was_told else 'YES, IF that key is theirs'}: {which}: {len(shown['lines'])} lines,"))
    print(f"and all of the {entries} entries that were recorded up to position {recorded_to}.")
    witnesses = "".join(f" and by {name}" for name, _, algorithm, _ in map(read_key, trusted) if algorithm == 4)
    print(plain(f"Signed by {key}{witnesses}"))
    print("A later version of the statement may exist.")
    for one in head["sections"]:
        print(plain(f"{one['currency']} (minor units): opening {one['opening']}, closing {one['closing']}"))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print(__doc__)
        sys.exit(2)
    main(*sys.argv[1:])
