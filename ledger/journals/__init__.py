"""The books as a general ledger that other tools read: hledger, beancount, and CSV for everything else."""
