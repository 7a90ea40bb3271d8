"""The checks of preflight: what to ask, how to evaluate all hosts together, what to advise; pure.

They import model and text. Start in engine/definition.py, then read one topic, for example network/master_port.py.
"""
