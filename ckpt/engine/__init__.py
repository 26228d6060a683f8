"""pre-dump, dump, precopy, restore: the order of the steps and the undo of each."""
