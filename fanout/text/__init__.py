"""Text for terminals: units, tables, line wrapping, and removal of control sequences.

It may import the standard library only. Start in sanitize.py: every text of a host passes through it.
"""
