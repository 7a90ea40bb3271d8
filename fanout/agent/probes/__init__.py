"""Probes: the questions that a host answers, one module per topic, standard library only.

They import other modules of the agent. Start in registry.py.
"""
