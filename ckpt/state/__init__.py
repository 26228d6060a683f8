"""One file for each kind of state, collect and restore side by side."""
