"""The record of a run on disk: format, writer, reader, index, lock and retention.

It may import model and text. Start in run_writer.py and run_reader.py.
"""
