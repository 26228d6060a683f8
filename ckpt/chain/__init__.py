"""Images in order: parents, the epochs journal, merge, verify."""
