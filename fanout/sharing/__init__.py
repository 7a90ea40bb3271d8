"""Sharing: find out who holds which host, which hosts a run takes, and when a waiting run starts; pure.

It may import model and text. Start in availability.py, then read wait_policy.py.
"""
