"""Open file descriptions: one file for each kind."""
