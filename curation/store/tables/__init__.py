"""The store's tables, one file for each or for a pair: every file here registers its tables in `schema`."""
