"""Checks: tables of checks that judge the facts of all hosts together, and give advice. Pure."""
