#!/usr/bin/env python3
"""Run the commission ledger from a checkout: makes the virtual environment once, then runs what you ask.

    python3 run.py demo            a populated ledger with a page to look at
    python3 run.py test [ARGS…]    the tests (arguments go to pytest)
    python3 run.py lint            ruff, mypy --strict, import rules
    python3 run.py bench           the benchmarks
    python3 run.py serve           the HTTP service
    python3 run.py VERB [ARGS…]    any other verb of the `ledger` command; `VERB --help` explains it

The first run installs the libraries that `requirements.lock` pins by hash (with uv when it is on PATH, else
with pip); later runs need no network. Standard library only: this file runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator, NoReturn, Sequence  # noqa: UP035 - must parse on Pythons it turns down

# Shown until there is an environment to ask the `ledger` command itself.
VERBS = """\
The verbs of the `ledger` command, in short:

  records     program, offer, plan, goals, affiliate, key, postback-secret, payee, tax, erase
  lists       programs, offers, affiliates, exceptions, breaks, receivables, notices, jobs, periods, statements,
              invoices, decisions
  books       import, rates, clicks, approve-due, attribute-waiting, balances, trial-balance, rebuild, check, export,
              simulate, simulation
  a month     close, reissue, statement, write-statements, payouts, reconcile, break, tax-totals
  proof       seal, checkpoint, proof, sealing-key, witnesses, verify, replay, timeline, explain, report
  operating   demo, serve, worker, migrate, backup, restore, known-positions, bank-matched, bench
"""

ROOT = Path(__file__).resolve().parent
OLDEST = (3, 11)
STAMP = "commission-ledger.stamp"
LINTED = ("ledger", "api", "benchmarks", "wsgi.py", "run.py")


class SetUpError(Exception):
    """The environment cannot be made; the message says what to do about it."""


def main(argv: Sequence[str]) -> int:
    """Make the environment if needed and run the verb; returns an exit code when it does not exec."""
    if sys.version_info < OLDEST:
        return rerun_with_newer_python(argv)
    asked_for_help = not argv or argv[0] in ("-h", "--help", "help")
    if asked_for_help:
        print(f"{__doc__.strip()}\n\n{verbs(ROOT)}")
        return 0
    try:
        python = ensure_environment(ROOT)
    except SetUpError as problem:
        print(f"run.py: {problem}", file=sys.stderr)
        return 1
    verb, rest = argv[0], list(argv[1:])
    if verb == "lint":
        return lint(python, ROOT)
    if verb == "test":
        os.chdir(ROOT)
        # all of them: on several cores at once, each file on one of them
        at_once = str(min(os.cpu_count() or 1, 4))
        execute(
            [str(python), "-m", "pytest", *(rest or ["-n", at_once, "--dist", "loadfile", "--no-loadscope-reorder"])],
            ROOT,
        )
    # -P: a folder called `ledger` in the caller's directory must not be taken for ours.
    execute([str(python), "-P", "-m", "ledger.cli", verb, *rest], ROOT)


def verbs(root: Path) -> str:
    """The verbs of the `ledger` command: by its own words if the environment is there, else the short list."""
    venv = root / ".venv"
    # Help is never worth an error: whatever goes wrong here, there is the short list.
    with contextlib.suppress(SetUpError, OSError, subprocess.SubprocessError):
        if is_ready(venv, stamp_for(root / "requirements.lock")):
            asked = [str(python_of(venv)), "-P", "-m", "ledger.cli", "--help"]
            said = subprocess.run(asked, env=environment_for(root), capture_output=True, timeout=30, check=True)
            _, found, listed = said.stdout.decode(errors="replace").partition("Commands:\n")
            if found:
                return f"The verbs of the `ledger` command:\n\n{listed.rstrip()}"
    return VERBS.rstrip()


def rerun_with_newer_python(argv: Sequence[str]) -> int:
    """Hand over to a newer Python on PATH, if there is one; else say what is missing."""
    for minor in range(14, OLDEST[1] - 1, -1):
        newer = shutil.which(f"python3.{minor}")
        # A version manager's shim can exist without the version behind it: ask it to run.
        if newer and subprocess.run([newer, "-c", ""], capture_output=True, check=False).returncode == 0:
            os.execv(newer, [newer, str(ROOT / "run.py"), *argv])
    found = ".".join(map(str, sys.version_info[:3]))
    print(
        f"run.py: Python 3.11 or newer is needed, this is {found}, and no newer one is on PATH.",
        file=sys.stderr,
    )
    return 1


# --- the environment -------------------------------------------------------------------------------


def ensure_environment(root: Path) -> Path:
    """Return the Python of a virtual environment that matches `requirements.lock`, making it if need be.

    Raises SetUpError when no folder is writable, or the libraries cannot be installed.
    """
    lock = root / "requirements.lock"
    wanted = stamp_for(lock)
    beside = root / ".venv"
    if is_ready(beside, wanted):
        return python_of(beside)
    venv = choose_folder(root)
    if venv != beside and not is_ready(venv, wanted):
        print(f"run.py: {root} is not writable by you, using {venv}", file=sys.stderr)
    with only_one(venv.with_name(venv.name + ".lock")):
        # Somebody else may have finished it while we waited for the lock.
        if not is_ready(venv, wanted):
            print(f"run.py: installing the libraries into {venv} (once) …", file=sys.stderr, flush=True)
            install(venv, lock)
            write_stamp(venv, wanted)
    return python_of(venv)


def stamp_for(lock: Path) -> str:
    """What the stamp of a finished environment says: the lock's SHA-256 and the Python it was made for."""
    try:
        digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    except OSError as problem:
        raise SetUpError(f"cannot read {lock}: {problem.strerror}") from problem
    return f"{digest} python{sys.version_info[0]}.{sys.version_info[1]}\n"


def is_ready(venv: Path, wanted: str) -> bool:
    """True if the environment was finished for this lock and its Python still exists and may be run by us."""
    try:
        finished = (venv / STAMP).read_text(encoding="utf-8") == wanted
    except OSError:
        return False
    return finished and os.access(python_of(venv), os.X_OK)


def write_stamp(venv: Path, text: str) -> None:
    """Mark the environment as finished; last and in one step, so that an interrupted install is redone."""
    draft = venv / (STAMP + ".new")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, venv / STAMP)


def python_of(venv: Path) -> Path:
    """The interpreter inside a virtual environment."""
    return venv / "bin" / "python"


def choose_folder(root: Path) -> Path:
    """`.venv` beside run.py; where the checkout is read-only for us, LEDGER_HOME, else the user's cache."""
    if os.access(root, os.W_OK) and (not (root / ".venv").exists() or os.access(root / ".venv", os.W_OK)):
        return root / ".venv"
    home = os.environ.get("LEDGER_HOME")
    folder = Path(home).absolute() if home else Path("~/.cache/commission-ledger").expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        folder_problem = f"cannot make {folder}: {problem.strerror}"
        raise SetUpError(f"{root} is not writable and {folder_problem}; set LEDGER_HOME to a folder of yours") from None
    if not os.access(folder, os.W_OK):
        raise SetUpError(f"neither {root} nor {folder} is writable; set LEDGER_HOME to a folder of yours")
    # Checkouts at different versions share this folder: each lock gets its own environment.
    return folder / f"venv-{hashlib.sha256((root / 'requirements.lock').read_bytes()).hexdigest()[:12]}"


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold a file lock, so that two run.py started together do not install over each other."""
    import fcntl  # not on Windows, where main's help must still print

    with open(path, "a", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("run.py: waiting for another run.py that is installing …", file=sys.stderr, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def install(venv: Path, lock: Path) -> None:
    """Make the environment from nothing and install exactly what the lock pins.

    Raises SetUpError with the tool's own words above it when neither uv nor pip succeeds.
    """
    uv = shutil.which("uv")
    if uv and install_with_uv(uv, venv, lock):
        return
    if install_with_pip(venv, lock):
        return
    raise SetUpError("the libraries could not be installed (see above); the first run needs a package index")


def install_with_uv(uv: str, venv: Path, lock: Path) -> bool:
    """uv makes the environment and installs into it in seconds; False sends the caller to pip."""
    make = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(venv)]
    fill = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "--python",
        str(python_of(venv)),
        "-r",
        str(lock),
    ]
    if succeeds(make) and succeeds(fill):
        return True
    print("run.py: uv did not succeed, trying pip …", file=sys.stderr, flush=True)
    return False


def install_with_pip(venv: Path, lock: Path) -> bool:
    """The standard library's way: venv, then the pip inside it (or the system's pip aimed at it)."""
    import importlib.util

    options = [
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--require-hashes",
        "-r",
        str(lock),
    ]
    make = [sys.executable, "-m", "venv", "--clear"]
    if importlib.util.find_spec("venv") is None:
        raise SetUpError("this Python has no venv module: install python3-venv, or uv")
    # Debian splits ensurepip off into python3-venv; a system pip can fill an environment without its own.
    if importlib.util.find_spec("ensurepip") is not None:
        return succeeds([*make, str(venv)]) and succeeds([str(python_of(venv)), "-m", "pip", *options])
    if importlib.util.find_spec("pip") is not None:
        aimed = [sys.executable, "-m", "pip", "--python", str(python_of(venv)), *options]
        return succeeds([*make, "--without-pip", str(venv)]) and succeeds(aimed)
    raise SetUpError("this Python can make no environment with pip (ensurepip is missing): install python3-venv, or uv")


def succeeds(command: Sequence[str]) -> bool:
    """Run an installer command with the caller's index settings, but not the settings that aim elsewhere."""
    misleading = (
        "PYTHONHOME",
        "PYTHONPATH",
        "VIRTUAL_ENV",
        "PIP_USER",
        "PIP_TARGET",
        "PIP_PREFIX",
        "PIP_REQUIRE_HASHES",
    )
    env = {name: value for name, value in os.environ.items() if name not in misleading}
    return subprocess.run(command, env=env, stdin=subprocess.DEVNULL, check=False).returncode == 0


# --- running ---------------------------------------------------------------------------------------


def environment_for(root: Path) -> dict[str, str]:
    """The child's environment: our checkout first on the import path, whatever folder it runs in."""
    env = dict(os.environ)
    env.pop("PYTHONHOME", None)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), env.get("PYTHONPATH")]))
    return env


def execute(command: Sequence[str], root: Path) -> NoReturn:
    """Become the command: signals and the exit code are then its own."""
    sys.stdout.flush()
    os.execve(command[0], list(command), environment_for(root))


def has_python(path: Path) -> bool:
    """True for a Python file, or a folder with one in it (mypy takes an empty folder for a mistake)."""
    return path.is_file() or any(path.rglob("*.py"))


def lint(python: Path, root: Path) -> int:
    """Run every check even if an earlier one fails; 0 only if all pass."""
    tool = [str(python), "-m"]
    import_rules = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    checks = {
        "ruff check": [*tool, "ruff", "check", "."],
        "ruff format": [*tool, "ruff", "format", "--check", "."],
        "mypy": [*tool, "mypy", "--strict", *[name for name in LINTED if has_python(root / name)]],
        "import rules": [str(python), "-c", import_rules],
    }
    failed = []
    for name, command in checks.items():
        print(f"== {name}", flush=True)
        if subprocess.run(command, cwd=root, env=environment_for(root), check=False).returncode != 0:
            failed.append(name)
    print("lint: " + (f"failed: {', '.join(failed)}" if failed else "clean"), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("run.py: interrupted; the same command again goes on", file=sys.stderr)
        sys.exit(130)
