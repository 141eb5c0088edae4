"""Who works on which background run: one process, or many."""
