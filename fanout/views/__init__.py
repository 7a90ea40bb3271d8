"""How a run looks: every view is a subscriber of events and decides nothing about the run."""
