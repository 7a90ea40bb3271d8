"""Probes: one module per topic that a host can be asked about, such as GPUs, files or stacks.

They may import the standard library and other modules of the agent. Start in registry.py.
"""
