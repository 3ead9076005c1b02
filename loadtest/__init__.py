"""Load tests: every published figure comes from a command in here."""
