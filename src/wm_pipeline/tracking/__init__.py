"""What a run was: its record, seconds and curves, the list of runs, the page of results."""
