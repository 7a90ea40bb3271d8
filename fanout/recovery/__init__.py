"""Recovery: decide after a failed attempt whether, on which hosts and when the next attempt starts.

It imports only ``model/`` and ``text/``, and every function is pure. Start reading in ``decision.py``.
"""
