"""Checks of software: programs, Python, torch, imports of the task.

They import the engine and model. Start in programs.py.
"""
