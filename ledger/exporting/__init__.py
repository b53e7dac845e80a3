"""`ledger export`: a program's logs, balances and statements into a directory that can be checked without us."""
