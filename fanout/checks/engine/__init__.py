"""The engine of the checks: definition, catalogue, evaluation and report.

It may import model, text and the topics. Start in definition.py.
"""
