"""Checks of the machine: clock, memory, limits, services, live runs.

They may import the engine, other topics and model. Start in machine.py.
"""
