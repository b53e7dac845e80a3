"""`python -m ledger.cli VERB`."""

from ledger.cli import main

if __name__ == "__main__":
    main()
