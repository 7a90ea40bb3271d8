"""fanout measured side by side with its peers; never part of the tests. See README.md here."""
