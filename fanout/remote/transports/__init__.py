"""Transports: a channel of bytes to one host, by built-in ssh, the ssh program or a local shell.

They may import hosts, settings and errors of model. Start in base.py, then read select.py.
"""
