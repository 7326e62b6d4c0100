"""What ratings say, and how sure it is: intervals over prompts, agreement of raters, strengths from pairs."""
