"""Checks of GPUs: count, use by others, health, links.

They import the engine and model. Start in accelerators.py.
"""
