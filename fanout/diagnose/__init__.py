"""Diagnosis: evidence of a failed run becomes its first cause, with a confidence and advice.

It imports model, logs, text, and the frames and the bundle of the agent. Start in collector.py, then first_cause.py.
"""
