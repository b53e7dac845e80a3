"""run.py makes its environment once, again when it must, and then gets out of the way. No network is used:
a tiny checkout locks one wheel, which the test makes."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import run
from ledger.cli import cli

RUN = Path(__file__).resolve().parents[1] / "run.py"

CLI = """
import os, sys
import tinylib
print(tinylib.VERSION, os.getcwd(), sys.argv[1:])
if "fail" in sys.argv:
    sys.exit(7)
"""


class Checkout:
    """A tiny copy of the project with a wheel of its own to install."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a check out"
        self.wheels = folder / "wheels"
        self.wheels.mkdir()
        (self.root / "ledger").mkdir(parents=True)
        shutil.copy(RUN, self.root / "run.py")
        (self.root / "ledger" / "__init__.py").touch()
        (self.root / "ledger" / "cli.py").write_text(CLI)
        self.lock("1.0")

    def lock(self, version: str, *, digest: str | None = None) -> None:
        """Make the wheel of a version and pin it."""
        wheel = self.wheels / f"tinylib-{version}-py3-none-any.whl"
        info = f"tinylib-{version}.dist-info"
        files = {
            "tinylib.py": f"VERSION = {version!r}\n",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tinylib\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{name},sha256={urlsafe(text)},{len(text)}\n" for name, text in files.items())
        files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        digest = digest or hashlib.sha256(wheel.read_bytes()).hexdigest()
        (self.root / "requirements.lock").write_text(f"tinylib=={version} --hash=sha256:{digest}\n")

    def start(self, *arguments: str, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
        settings = {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": self.wheels.as_uri(),
            "UV_NO_INDEX": "1",
            "UV_FIND_LINKS": self.wheels.as_uri(),
        }
        # The venv's own Python would make environments like itself: take the one it was made from.
        base = getattr(sys, "_base_executable", sys.executable)
        return subprocess.Popen(
            [base, str(self.root / "run.py"), *arguments],
            cwd=cwd or self.root,
            env={**os.environ, **settings, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, cwd: Path | None = None, **env: str) -> tuple[int, str, str]:
        process = self.start(*arguments, cwd=cwd, **env)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err


def urlsafe(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_help_installs_nothing(checkout: Checkout) -> None:
    code, out, _ = checkout.run("--help")
    assert code == 0
    assert "run.py serve" in out
    assert "payouts" in out
    assert not (checkout.root / ".venv").exists()


def test_the_short_list_in_the_help_has_every_verb() -> None:
    """What is shown before anything is installed is kept up with the command."""
    listed = {verb for line in run.VERBS.splitlines()[2:] for verb in re.findall(r"[a-z-]+", line[12:])}
    assert listed == set(cli.commands)


def test_installs_once_and_runs_in_the_callers_folder(checkout: Checkout, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where"
    (elsewhere / "ledger").mkdir(parents=True)  # a folder that must not be taken for ours
    (elsewhere / "ledger" / "cli.py").write_text("print('not ours')")
    code, out, err = checkout.run("verify", "a file.json", cwd=elsewhere)
    assert (code, out) == (0, f"1.0 {elsewhere} ['verify', 'a file.json']\n"), err
    assert "installing" in err
    code, out, err = checkout.run("fail", cwd=elsewhere)
    assert (code, err) == (7, ""), "installed already, and the exit code is the command's"
    (checkout.root / "ledger" / "cli.py").write_text("print('Usage: ledger\\n\\nCommands:\\n  frobnicate  Does it.')")
    code, out, err = checkout.run("--help")
    assert (code, err) == (0, "")
    assert out.endswith("  frobnicate  Does it.\n"), "the command's own words, as it can be asked now"


def test_installs_again_when_the_lock_changed(checkout: Checkout) -> None:
    checkout.run("x")
    checkout.lock("2.0")
    _, out, err = checkout.run("x")
    assert out.startswith("2.0 "), err
    assert "installing" in err


def test_an_interrupted_install_is_done_again(checkout: Checkout) -> None:
    process = checkout.start("x")
    deadline = time.monotonic() + 60
    while not (checkout.root / ".venv").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not list((checkout.root / ".venv").glob("*.stamp"))
    code, out, err = checkout.run("x")
    assert (code, out[:4]) == (0, "1.0 "), err


def test_two_at_once_install_once(checkout: Checkout) -> None:
    both = [checkout.start("x") for _ in range(2)]
    ends = [process.communicate(timeout=120) for process in both]
    assert [out[:4] for out, _ in ends] == ["1.0 ", "1.0 "]
    assert sum("installing the libraries" in err for _, err in ends) == 1


def test_a_wheel_that_is_not_the_locked_one_is_refused(checkout: Checkout) -> None:
    checkout.lock("3.0", digest="0" * 64)
    code, out, err = checkout.run("x")
    assert (code, out) == (1, "")
    assert "could not be installed" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_checkout_that_is_not_ours_gets_its_environment_elsewhere(checkout: Checkout, tmp_path: Path) -> None:
    checkout.root.chmod(stat.S_IRUSR | stat.S_IXUSR)
    code, out, err = checkout.run("x", LEDGER_HOME=str(tmp_path / "home"))
    assert (code, out[:4]) == (0, "1.0 "), err
    assert "not writable by you" in err
    checkout.root.chmod(stat.S_IRWXU)


# --- the pieces that a healthy machine never shows -------------------------------------------------------


def test_a_python_that_can_make_no_environment_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(run.SetUpError, match="install python3-venv, or uv"):
        run.install_with_pip(tmp_path / ".venv", tmp_path / "requirements.lock")


def test_an_old_python_hands_over_or_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert run.main(["test"]) == 1
    assert "Python 3.11 or newer is needed, this is 3.9.18" in capsys.readouterr().err


def test_an_environment_whose_python_is_gone_is_not_ready(tmp_path: Path) -> None:
    run.write_stamp(tmp_path, "stamp")
    assert not run.is_ready(tmp_path, "stamp")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    assert run.is_ready(tmp_path, "stamp")
    assert not run.is_ready(tmp_path, "another lock's stamp")


def test_the_lock_pins_everything_by_hash_and_names_no_address() -> None:
    lock = (RUN.parent / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in lock
    assert "index-url" not in lock
    pinned = [line.split("==")[0] for line in lock.splitlines() if re.match(r"[a-z]", line)]
    assert all("==" in line and line.endswith("\\") for line in lock.splitlines() if re.match(r"[a-z]", line))
    wanted = re.findall(r"^[A-Za-z][\w-]*", (RUN.parent / "requirements.in").read_text("utf-8"), re.MULTILINE)
    assert {name.lower() for name in wanted} <= set(pinned)
