"""Preflight: the order of questions behind `fanout check`, over connections that exist.

It may import checks, remote, model, text, and the agent's bundle. Start in run_checks.py.
"""
