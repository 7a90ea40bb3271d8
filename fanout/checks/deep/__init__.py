"""Checks of `--deep`: torch.distributed starts on all hosts, and its all-reduce is correct and fast.

They may import the engine, other topics and model. Start in torch_start.py.
"""
