"""Ray, actors, the flow of tasks, signals, progress, jobs. Knows no command."""
