"""The Python API: launch, check and plan from a script or a notebook, and read recorded runs.

It may import run and every package below. Start in calls.py.
"""
