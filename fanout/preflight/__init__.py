"""Preflight: the order of questions behind `fanout check`, over connections that exist.

It imports checks, model, remote and text. Start in run_checks.py.
"""
