"""Checks of the network: ports, interfaces, the mesh of all hosts, packet loss, InfiniBand.

They import the engine and model. Start in master_port.py.
"""
