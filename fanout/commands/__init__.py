"""One file per command: arguments in, exit status out.

They import run and the packages below it. Start in run.py.
"""
