"""The page that lies in an export for whoever checks it: what it is, and how, with our software and without."""

from __future__ import annotations

from collections.abc import Iterable

from ledger.audit import directory as names
from ledger.audit.directory import LogEnd, Totals
from ledger.audit.exporting_place import Plan
from ledger.store.codec import instant_text

_PAGE = """# Export of the commission ledger of {program}

Everything that the ledger of the affiliate program `{program}` has recorded, up to a position: for an auditor, who
can check it without us. Format: `{format}`; the segments are {segments}. Begun {exported_at}.
{seal}
| | |
|---|---|
{counts}
Amounts are integers in minor units (pence, cents). Affiliates and orders stand here under the ids that the program
gave them; names, e-mail addresses, bank details and free text are ciphertext, and the keys are not here.

## Files

- `manifest.json`: the files with sizes and SHA-256, how far each log goes, its root, and control totals
- `books/`, `traffic/`: the two logs in segments of {segment_positions:,} positions. `books` has all that carries or
  decides money and every change of master data, `traffic` has clicks and impressions. An event is a line; positions
  are 1, 2, 3 … without gaps{columns}
- `books/checkpoint`, `traffic/checkpoint`: size and root of the log, signed; `consistency.json` where the checkpoint
  is of a larger size than what is here
- `books/leaves`, `traffic/leaves`: every leaf hash of the log, 32 bytes each, and `checkpoints.ndjson`: earlier
  signed checkpoints. They name the place where something differs
- `keys.txt`: the public keys that sign; `until SIZE` stands behind one that was retired, and no checkpoint of a larger
  size counts as signed by it. **Compare them with keys that you were given in another way**: keys that come
  along with the data prove nothing
- `balances.ndjson`: every account as of the last exported position of the books, debits less credits
- `statements.ndjson`: every version of every affiliate's statement issued by then, with its hash

## Check it with our software

    ledger verify .

needs neither database nor network: every hash, the roots, the signatures, positions without gaps, every event replayed
by two sets of rules that share no code, sums of zero, and balances and statements recomputed and compared.

## Check it by hand

Hashes and roots, with Python's standard library{and_duckdb} (run it in this directory):

```python
import base64, hashlib, json, pathlib{imports}

sha = lambda data: hashlib.sha256(data).digest()
manifest = json.loads(pathlib.Path("manifest.json").read_bytes())
for file in manifest["files"]:
    with open(file["path"], "rb") as opened:
        assert hashlib.file_digest(opened, "sha256").hexdigest() == file["sha256"], file["path"]

def lines(path):
{lines}

for log, end in manifest["logs"].items():
    position, tree = 0, []  # tree: (leaves, hash) of complete subtrees, as in RFC 9162
    for file in manifest["files"]:
        for line in lines(file["path"]) if file["log"] == log else ():
            position += 1
            assert json.loads(line)["position"] == position, (log, position)
            leaves, node = 1, sha(b"\\0" + line)
            while tree and tree[-1][0] == leaves:
                leaves, node = 2 * leaves, sha(b"\\1" + tree.pop()[1] + node)
            tree.append((leaves, node))
    root = tree.pop()[1] if tree else sha(b"")
    while tree:
        root = sha(b"\\1" + tree.pop()[1] + root)
    assert (position, root.hex()) == (end["size"], end["root"]), log
    print(f"{{log}}: {{position:,}} events lead to the root {{base64.b64encode(root).decode()}}")
```

`sha256sum` prints the same hashes of files. A statement's hash is the SHA-256 of its `document`.{signatures}
"""

_SIGNATURES = """

The root must be the third line of the log's `checkpoint` (where the second line says a larger size, `consistency.json`
leads from the one to the other: RFC 9162, section 2.1.4). The signature under it, with OpenSSL 3:

```python
import base64, pathlib, subprocess, tempfile

lines = [line.split(" until ") for line in pathlib.Path("keys.txt").read_text().splitlines()]
keys = [line[0].split("+", 2) for line in lines if len(line) == 1]  # without those that were retired before
for note in sorted(pathlib.Path(".").glob("*/checkpoint")):
    text, _, signatures = note.read_text().rpartition("\\n\\n")
    good = []
    for line in signatures.splitlines():
        name, signature = line[2:].split(" ")
        signature = base64.b64decode(signature)
        for key_name, key_hash, key in keys:
            if (key_name, bytes.fromhex(key_hash)) == (name, signature[:4]) and name == text.split("\\n")[0]:
                with tempfile.TemporaryDirectory() as there:
                    file = lambda name: pathlib.Path(there, name)
                    der = bytes.fromhex("302a300506032b6570032100") + base64.b64decode(key)[1:]
                    file("key").write_bytes(der)
                    file("text").write_text(text + "\\n")
                    file("signature").write_bytes(signature[4:])
                    subprocess.run(["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-rawin", "-inkey",
                                    file("key"), "-in", file("text"), "-sigfile", file("signature")], check=True)
                good.append(name)
    assert good, f"{note} is signed by no key of keys.txt"
```"""

_UNSEALED = """
**NOT SEALED. No signed checkpoint vouches for these logs.** This directory can be checked for agreeing
with itself; it cannot show that nobody changed, inserted or took away events before it was made. Ask
for a sealed export.
"""

_NDJSON_LINES = """    with open(path, "rb") as opened:
        yield from (line[:-1] for line in opened)"""

_PARQUET_LINES = """    rows = duckdb.connect().execute(f"SELECT line FROM '{path}'")
    while some := rows.fetchmany(10_000):
        yield from (line.encode() for (line,) in some)"""


def readme(plan: Plan, logs: dict[str, LogEnd], totals: Totals) -> bytes:
    """README.md's bytes."""
    parquet = plan.segments == names.PARQUET
    return _PAGE.format(
        program=plan.program,
        format=names.FORMAT,
        segments="Parquet" if parquet else "NDJSON",
        exported_at=instant_text(plan.exported_at),
        seal="" if plan.sealed else _UNSEALED,
        counts="".join(f"| {what} | {much} |\n" for what, much in _counts(logs, totals)),
        segment_positions=names.SEGMENT_POSITIONS,
        columns="; the column `line` is what was hashed, the others are for queries" if parquet else "",
        and_duckdb=" and the package `duckdb`" if parquet else "",
        imports=", duckdb" if parquet else "",
        lines=_PARQUET_LINES if parquet else _NDJSON_LINES,
        signatures=_SIGNATURES if plan.notes else "",
    ).encode()


def _counts(logs: dict[str, LogEnd], totals: Totals) -> Iterable[tuple[str, str]]:
    for log, end in logs.items():
        sealed = f", sealed up to {end.checkpoint_size:,}" if end.checkpoint_size else ""
        yield f"events in `{log}`", f"{end.size:,}{sealed}"
    yield "lines of the journal", f"{totals.journal_lines:,}"
    for currency, amount in totals.turnover.items():
        yield f"moved by them, {currency}", f"{amount:,} minor units"
    yield "accounts", f"{totals.accounts:,}"
    yield "statements (all versions)", f"{totals.statements:,}"
