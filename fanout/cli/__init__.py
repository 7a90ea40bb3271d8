"""The command line: options, parser, and the entry point that reads the environment and returns the exit status.

It may import commands and every package below. Start in main.py.
"""
