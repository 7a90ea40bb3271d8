"""The verbs that read what runs left behind."""
