"""Backups: the whole database in one snapshot, its personal-data keys apart; and restores that prove themselves."""
