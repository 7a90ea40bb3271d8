"""Checks of software: programs, Python, torch, imports of the task.

They may import the engine, other topics and model. Start in programs.py.
"""
