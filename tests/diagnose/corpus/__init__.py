"""Logs of failed runs with the conclusion of a careful reader, and the score of fanout's verdicts on them.

Start in cases.py. ``python -m tests.diagnose.corpus`` prints the verdicts that are not right.
"""
