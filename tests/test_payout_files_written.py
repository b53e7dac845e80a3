"""Payment files are read back before they are handed out, and written whole or not at all."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from payout_file_world import HEADER, IBANS, order, sepa_order

from ledger.payouts.files import check, render, verify, write
from ledger.payouts.orders import (
    ManualPayee,
    Payee,
    PayoutFileError,
    PayPalPayee,
    SepaPayee,
    WisePayee,
)

# --- Reading back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["sepa", "paypal", "wise", "manual"])
def test_a_file_that_says_something_else_is_noticed(method: str) -> None:
    """One payment more, less, twice, of another amount, or to another account: each is refused."""
    payees: dict[str, list[Payee]] = {
        "sepa": [SepaPayee(name="Ada", iban=iban) for iban in IBANS],
        "paypal": [PayPalPayee(email=f"a{n}@example.com") for n in range(8)],
        "wise": [WisePayee(name="Ada", receiver_type="PERSON", iban=iban) for iban in IBANS],
        "manual": [ManualPayee(instructions="cash")] * 8,
    }
    orders = [order(n, p, 1000 + n) for n, p in enumerate(payees[method])]
    files = render(HEADER, orders, method)
    verify(files, orders)
    verify(files, orders[::-1])
    replace = msgspec.structs.replace
    for changed, named in [
        (orders[1:], "PO00000"),
        ([*orders, order(99, payees[method][0])], "PO00099"),
        ([*orders[1:], replace(orders[0], amount=1)], "PO00000"),
        # same count and sum, two amounts exchanged
        ([replace(orders[0], amount=1001), replace(orders[1], amount=1000), *orders[2:]], "PO00000, PO00001"),
        ([replace(orders[0], payee=payees[method][1], affiliate_id="other"), *orders[1:]], "PO00000"),
    ]:
        with pytest.raises(PayoutFileError, match=named):
            verify(files, changed)
    with pytest.raises(PayoutFileError):
        verify([], orders)
    with pytest.raises(PayoutFileError):
        verify([*files, *files], orders)
    with pytest.raises(PayoutFileError, match="hash"):
        verify([replace(files[0], content=files[0].content.replace(b"10.00", b"10.01"))], orders)
    with pytest.raises(PayoutFileError, match="control sum"):
        verify([replace(files[0], control_sum=1)], orders)


@pytest.mark.parametrize(
    ("was", "becomes", "says"),
    [
        (b"<NbOfTxs>2<", b"<NbOfTxs>3<", "NbOfTxs or CtrlSum"),
        (b"<CtrlSum>2.01<", b"<CtrlSum>2.02<", "NbOfTxs or CtrlSum"),
        (b'Ccy="EUR">1.00', b'Ccy="EUR">1.01', "NbOfTxs or CtrlSum"),
        (b'Ccy="EUR">1.00', b'Ccy="USD">1.00', "transfer 1: is not in EUR"),
        (b'Ccy="EUR">1.00', b'Ccy="EUR">1', "decimals"),
        (b'Ccy="EUR">1.00', b'Ccy="EUR">-1.00', "decimals"),
        (b"PO00001<", b"PO00000<", "twice"),
        (b"EndToEndId>PO00001<", b"EndToEndId><", "lacks"),
        (b"pain.001.001.09", b"pain.001.001.03", "pain.001.001.09"),
        (b"</Document>", b"", "well-formed"),
        (b"<Document", b'<!DOCTYPE d [<!ENTITY a "b">]><Document', "plain"),
    ],
)
def test_a_sepa_file_that_contradicts_itself_is_refused(was: bytes, becomes: bytes, says: str) -> None:
    """Counts, sums, currency, ids and form are all read from the bytes."""
    [file] = render(HEADER, [sepa_order(0, 100), sepa_order(1, 101)], "sepa")
    assert was in file.content
    assert check(file.content, "sepa", "EUR") == (2, 201, {"PO00000", "PO00001"})
    with pytest.raises(PayoutFileError, match=says):
        check(file.content.replace(was, becomes), "sepa", "EUR")


@pytest.mark.parametrize(
    ("was", "becomes", "says"),
    [
        (b"49.90", b"49.9", "row 2: the amount"),
        (b"49.90", b"4.990,00", "row 2"),
        (b"49.90", b"-49.90", "row 2: the amount"),
        (b"EUR,EUR", b"EUR,USD", "row 2: must be paid in one currency"),
        (b"EUR,EUR", b"USD,USD", "row 2: is not in EUR"),
        (b",target,", b",source,", "the exact amount"),
        (b"paymentReference", b"reference", "row 1"),
        (b"PO00001", b"", "not well formed"),
        (b"Ada", b"\xff", "UTF-8"),
    ],
)
def test_a_csv_file_that_was_edited_is_refused(was: bytes, becomes: bytes, says: str) -> None:
    """Whoever saves it from a spreadsheet that drops zeros or changes a column is told which row."""
    [file] = render(HEADER, [order(1, WisePayee(name="Ada", receiver_type="PERSON", iban=IBANS[0]))], "wise")
    assert was in file.content
    with pytest.raises(PayoutFileError, match=says):
        check(file.content.replace(was, becomes), "wise", "EUR")


def test_nothing_is_rendered_that_does_not_read_back_as_ordered() -> None:
    """An account in the order that is not written as the file has it is no match: rendering refuses."""
    with pytest.raises(PayoutFileError, match="do not say what the orders say for PO00001"):
        render(HEADER, [sepa_order(1, iban="DE89-3704-0044-0532-0130-00")], "sepa")


# --- Writing -----------------------------------------------------------------------------------------------


def test_files_are_written_for_their_owner_only_and_left_when_they_are_there(tmp_path: Path) -> None:
    """Mode 0600 in a directory 0700; the same again changes nothing; other bytes are refused before anything else."""
    directory = tmp_path / "out" / "payouts"
    files = render(HEADER, [order(n, PayPalPayee(email=f"a{n}@example.com")) for n in range(5001)], "paypal")
    paths = write(directory, files)
    assert [p.read_bytes() for p in paths] == [f.content for f in files]
    assert stat.S_IMODE(paths[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    before = paths[0].stat()
    assert write(directory, files) == paths
    assert (paths[0].stat().st_mtime_ns, paths[0].stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    paths[0].unlink()
    paths[1].write_bytes(b"something else")
    with pytest.raises(PayoutFileError, match="never overwritten"):
        write(directory, files)
    assert sorted(p.name for p in directory.iterdir()) == [paths[1].name]
    assert paths[1].read_bytes() == b"something else"


def test_a_name_cannot_leave_the_directory_nor_follow_a_link(tmp_path: Path) -> None:
    """'../x' is refused, and so is a link that somebody put where the file should be."""
    [file] = render(HEADER, [sepa_order(1)], "sepa")
    for name in ("../x.xml", "/x.xml", ".x", "", "a/b"):
        with pytest.raises(PayoutFileError, match="name"):
            write(tmp_path, [msgspec.structs.replace(file, name=name)])
    target = tmp_path / "target"
    target.write_bytes(file.content)
    (tmp_path / file.name).symlink_to(target)
    with pytest.raises(PayoutFileError, match="exists already"):
        write(tmp_path, [file])


# Forks once for each call into C that write() makes (open, write, fsync, rename …), kills the child before it, and
# looks at what is there; then writes again and looks whether it is whole.
KILLER = """
import os, signal, sys
from pathlib import Path
from ledger.payouts.files import RenderedFile, write
from hashlib import sha256

root, contents = Path(sys.argv[1]), {"a-1.csv": b"x" * 300_000, "a-2.csv": b"y" * 300_000}
files = [RenderedFile(name=n, method="paypal", currency="EUR", content=c, sha256=sha256(c).hexdigest(), count=1,
                      control_sum=1) for n, c in contents.items()]
killed = finished = 0
calls = []
for step in range(10_000):
    directory = root / str(step)
    directory.mkdir()
    read, said = os.pipe()
    child = os.fork()
    if child == 0:
        seen = 0
        def watch(frame, event, called):
            global seen
            if event == "c_call":
                if seen == step:
                    os.write(said, called.__name__.encode())
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1
        sys.setprofile(watch)
        write(directory, files)
        sys.setprofile(None)
        os._exit(0)
    os.close(said)
    _, status = os.waitpid(child, 0)
    calls.append(os.read(read, 100).decode())
    os.close(read)
    for path in directory.iterdir():
        if path.name in contents:
            assert path.read_bytes() == contents[path.name], (step, path.name, "half a file")
        else:
            assert path.name.startswith(".") and path.stat().st_mode & 0o77 == 0, (step, path.name)
    write(directory, files)
    assert sorted(p.name for p in directory.iterdir()) == sorted(contents), (step, "something is left over")
    assert all((directory / n).read_bytes() == c for n, c in contents.items()), step
    if status == 0:
        finished = 1
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    killed += 1
print(killed, finished, *calls)
"""


def test_killed_at_any_step_a_file_is_absent_or_whole(tmp_path: Path) -> None:
    """kill -9 before every system call of write: never half a file under its name, and a rerun makes it whole."""
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    killed, finished, *calls = done.stdout.split()
    assert int(killed) > 20
    assert finished == "1"
    # On the disk before it has its name, and the name on the disk before the caller goes on.
    steps = [call for call in calls if call in ("flock", "write", "fsync", "replace")]
    assert steps == ["flock", *["write", "fsync", "replace"] * 2, "fsync"]


FULL_DISK = """
import resource, sys
from pathlib import Path
from ledger.payouts.files import RenderedFile, write

directory, big = Path(sys.argv[1]), b"x" * 300_000
file = RenderedFile(name="a.csv", method="paypal", currency="EUR", content=big, sha256="", count=1, control_sum=1)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
try:
    write(directory, [file])
except OSError as error:
    print(type(error).__name__, [p.name for p in directory.iterdir()])
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
print(len(write(directory, [file])[0].read_bytes()))
"""


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A write that fails half way is an error, leaves neither the file nor its draft, and works once there is room."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
        check=True,
    )
    assert done.stdout.split("\n")[:2] == ["OSError []", "300000"]


RACE = (
    FULL_DISK.split("soft, hard")[0]
    + """
for n in range(50):
    [path] = write(directory / str(n), [file])
    assert path.read_bytes() == big
"""
)


def test_two_processes_writing_the_same_files_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Both end well, the bytes are whole, and no draft is left."""
    command = [sys.executable, "-c", RACE, str(tmp_path)]
    running = [subprocess.Popen(command, cwd=Path(__file__).parent.parent) for _ in range(3)]
    assert [p.wait(60) for p in running] == [0, 0, 0]
    assert [p.name for p in tmp_path.glob("*/*")] == ["a.csv"] * 50
