"""Checks of the machine: clock, memory, limits, services, live runs.

They import the engine and model. Start in machine.py.
"""
