"""The engine of the checks: definition, catalogue, evaluation and report.

It imports model, text and the topics. Start in definition.py.
"""
