"""Recovery: decide after a failed attempt whether the run starts again, on which hosts, and after which wait; pure.

It may import model and text. Start in decision.py, then read failure_classes.py.
"""
