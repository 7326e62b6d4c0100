"""Ray, actors, the flow of tasks, progress, jobs, servers of pages: what verbs share. Knows no command."""
