"""Connections to hosts: the pool with its one queue of events, the protocol, and the transports.

It may import model, text, and the agent's frames and bundle. Start in pool.py, then read connection.py.
"""
