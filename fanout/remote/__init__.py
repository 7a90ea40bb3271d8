"""Connections to hosts: one queue of events, the protocol, and the transports below it.

It imports model, text, and the frames and the bundle of the agent. Start in pool.py, then connection.py, then protocol.py.
"""
