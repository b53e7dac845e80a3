"""Statements as documents: the canonical JSON that is hashed, and the same as CSV, XLSX, HTML and PDF."""
