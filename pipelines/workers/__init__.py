"""The two ends of one call: tasks on Ray workers, and what runs inside their sandboxes."""
