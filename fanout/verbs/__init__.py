"""Commands of fanout, one file each, and the parts that they share."""
