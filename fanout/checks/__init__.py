"""The checks of preflight: the facts that each one needs, its evaluation of all hosts together, and its advice; pure.

They may import model and text. Start in engine/definition.py, then read one topic, for example network/master_port.py.
"""
