"""The HTML page of a run: timeline, charts and an excerpt of the log.

It may import ui, model, logs, record and text. Start in page.py.
"""
