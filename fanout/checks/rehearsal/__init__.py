"""Checks of train.sh: it runs in a sandbox with a torchrun that records its arguments.

They import the engine and model. Start in train_sh.py.
"""
