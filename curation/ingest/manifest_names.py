"""Names of the columns that a list of videos is understood by; the first that has a value counts."""

from __future__ import annotations

from reelwright.curation.ingest.span_columns import COLUMNS

URI_COLUMNS = ("uri", "path", "video", "video_path", "file", "url", "file_name", "filename", "file_path", "filepath",
               "media_path", "video_url")  # fmt: skip
ID_COLUMNS = ("source_id", "id")
LICENCE_COLUMNS = ("licence", "license")
CAPTION_COLUMNS = ("caption", "captions", "text", "prompt")
READ = frozenset({*URI_COLUMNS, *ID_COLUMNS, *LICENCE_COLUMNS, *CAPTION_COLUMNS})
KNOWN = READ | COLUMNS
MAX_TEXT_CHARS = 100_000
