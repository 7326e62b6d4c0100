"""Measures of generated videos without a judge: one per file, with the contract of annotators."""
