"""Typesets one statement and ends: run as a process of its own by ledger.statements.pdf, never imported.

typst keeps what it laid out for documents to come: a server that made statements itself would grow by hundreds of
megabytes. Standard input: the data as JSON (a command line could be read by others); standard output: the PDF.
Arguments: the document's date, seconds since 1970.
"""

from __future__ import annotations

import sys
from pathlib import Path

import typst

TEMPLATES = Path(__file__).parent / "templates"
# An archive's format, and one that can be read aloud
STANDARDS: list[typst.PDFStandard] = ["a-2a", "ua-1"]


def typeset(data: str, timestamp: int, standards: list[typst.PDFStandard]) -> bytes:
    """The PDF, with no fonts but those inside typst's wheel. Raises typst.TypstError."""
    compiler = typst.Compiler(
        (TEMPLATES / "statement.typ").read_bytes(),
        root=TEMPLATES,
        ignore_system_fonts=True,
        sys_inputs={"data": data},
    )
    made = compiler.compile(format="pdf", pdf_standards=standards, timestamp=timestamp)
    assert isinstance(made, bytes)
    return made


def main() -> None:
    """Standard input to standard output."""
    data, timestamp = sys.stdin.buffer.read().decode(), int(sys.argv[1])
    try:
        made = typeset(data, timestamp, STANDARDS)
    except typst.TypstError as error:
        if "could not be displayed" not in str(error):
            raise
        # A name in a script the fonts lack (Chinese, emoji): boxes in a plain PDF are better than no statement
        made = typeset(data, timestamp, [])
    sys.stdout.buffer.write(made)


if __name__ == "__main__":
    main()
