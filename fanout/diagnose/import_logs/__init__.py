"""Logs of other launchers for `fanout why`: plain or compressed files and flight recorder dumps.

It imports diagnose, model and text. Start in log_import.py.
"""
