"""Look at a store: search, contact sheets, the HTML report, lineage."""
