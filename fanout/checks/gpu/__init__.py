"""Checks of GPUs: count, use by others, health, links.

They may import the engine, other topics and model. Start in accelerators.py.
"""
