"""The command line: options, parser, and the entry point that reads the environment and exits.

It imports commands and the packages below it. Start in main.py.
"""
