"""The rules, pure: commands, events, decisions and folds. No clock, no database, no randomness."""
