"""Checks of `--deep`: torch.distributed starts, sums are right and fast.

They import the engine and model. Start in torch_start.py.
"""
