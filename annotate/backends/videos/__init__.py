"""Videos as classes of vision-language models take them, made from frames without a video processor."""
