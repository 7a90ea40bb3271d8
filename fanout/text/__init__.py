"""Text for terminals: units, tables, line wrapping, and removal of control sequences.

It imports the standard library only. Start in sanitize.py: every text of a host passes through it.
"""
