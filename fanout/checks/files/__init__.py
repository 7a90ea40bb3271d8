"""Checks of files: input files, source code, paths of the config, storage.

They may import the engine, other topics and model. Start in input_files.py.
"""
