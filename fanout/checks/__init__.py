"""The checks as tables: what to ask, how to judge all hosts together, what to advise. Pure."""
