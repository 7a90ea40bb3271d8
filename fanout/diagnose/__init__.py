"""Diagnosis: the evidence of a failed run gives its first cause, a confidence and advice.

It may import logs, model, text, and the agent's frames and bundle. Start in collector.py, then read first_cause.py.
"""
