"""Importing a merchant's order export: read, staged, matched, and recorded by the same commands the API uses."""
