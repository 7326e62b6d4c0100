"""Makers of fresh cases: one file per family of kinds. Each maker takes a `Bench` and yields entries of cases.json."""
