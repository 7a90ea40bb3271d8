"""The agent: the program that fanout sends to each host and that loads in memory (Python 3.8 or later).

It imports the standard library only. Start in relay.py, then keeper.py.
"""
