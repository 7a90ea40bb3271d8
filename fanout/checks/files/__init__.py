"""Checks of files: input files, source code, paths of the config, storage.

They import the engine and model. Start in input_files.py.
"""
