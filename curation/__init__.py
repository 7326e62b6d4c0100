"""Curation: from footage to clips in the store."""
