"""The rules of the diagnosis, one file per kind of cause.

They import the evidence of diagnose, model and text. Start in rule_table.py.
"""
