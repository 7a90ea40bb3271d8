"""The rules of the diagnosis, one file per kind of cause.

They may import the evidence of diagnose, logs, model and text. Start in rule_table.py.
"""
