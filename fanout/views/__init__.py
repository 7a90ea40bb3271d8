"""Views: display and record a run. Each view subscribes to events and makes no decision about the run."""
