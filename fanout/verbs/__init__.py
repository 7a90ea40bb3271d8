"""One file a verb: what each command does with the rooms below."""
