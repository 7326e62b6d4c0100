"""Recipes: YAML files, `--set`, and the settings of a curation."""
