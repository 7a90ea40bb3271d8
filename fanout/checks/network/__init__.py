"""Checks of the network: ports, interfaces, the mesh of all hosts, packet loss, InfiniBand.

They may import the engine, other topics and model. Start in master_port.py.
"""
