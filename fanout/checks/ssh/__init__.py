"""Checks of the login: reachable, interpreter, quiet and quick login, valid answers.

They import the engine and model. Start in access.py.
"""
