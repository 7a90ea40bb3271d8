"""What went wrong, where, and what to do: the first cause of a failed run, told from evidence, never guessed."""
