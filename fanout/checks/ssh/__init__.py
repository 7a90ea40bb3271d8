"""Checks of the login: the host is reachable, Python is found, the login is quiet and quick, answers are valid.

They may import the engine, other topics and model. Start in access.py.
"""
