"""Checks of train.sh: it runs in a sandbox with a recorder in place of torchrun.

They may import the engine, other topics and model. Start in train_sh.py.
"""
