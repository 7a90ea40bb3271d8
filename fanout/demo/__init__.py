"""The embedded lab of `fanout demo`: an SSH server in this process simulates several hosts on loopback.

It may import model, text, and paramiko. Start in embedded_lab.py.
"""
