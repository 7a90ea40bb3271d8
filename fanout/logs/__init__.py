"""Log text: splits bytes into lines, labels, classifies, filters and folds them, and reads metrics.

It may import model and text. Start in pipeline.py.
"""
