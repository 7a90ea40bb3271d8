"""The commands of the command line, one file each: a request in, an exit status out.

They may import run and every package below. Start in run.py.
"""
