"""Logs as lines: splitting, labels, levels, metrics, filters, folding and rate limits.

It imports model and text. Start in pipeline.py.
"""
