"""The agent: the program that fanout sends to each host, for Python 3.8 or later.

It may import the standard library only. Start in relay.py (one connection), then read keeper.py (the run).
"""
