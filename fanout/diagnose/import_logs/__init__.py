"""Import of logs for `fanout why`: files of any launcher, plain or compressed, and flight recorder dumps.

It may import diagnose, model, text and the agent's bundle. Start in log_import.py.
"""
