"""Launch multi-host PyTorch training over SSH."""

__version__ = "0.1.0"
