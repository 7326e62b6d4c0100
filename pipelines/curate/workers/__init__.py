"""The two ends of one call: tasks on Ray workers, and the functions inside their sandboxes."""
