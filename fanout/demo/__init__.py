"""The embedded lab: an SSH server in this process plays several hosts on loopback.

It imports model and text, and paramiko. Start in embedded_lab.py.
"""
