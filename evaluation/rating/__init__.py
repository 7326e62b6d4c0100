"""Studies with people: the scales, the plan of who sees what in which order, the answers and what they call for."""
