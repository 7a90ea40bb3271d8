"""Notify: messages about a run for other programs: hooks, chat services, Prometheus.

It may import model, text and lower packages. Start in message.py, then read run_messages.py.
"""
