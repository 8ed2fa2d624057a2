"""Private: import from `recollect`."""
