"""The kind of a file by its name: a video, a list of videos, or something else that need not be looked at."""

import os

VIDEO_SUFFIXES = frozenset({
    # files of phones, cameras, editors and the web
    ".mp4", ".m4v", ".mp4v", ".mov", ".qt", ".mkv", ".mk3d", ".webm", ".avi", ".divx", ".wmv", ".asf", ".flv", ".f4v",
    ".ogv", ".ogm", ".ogx", ".3gp", ".3gpp", ".3g2", ".3gp2", ".mxf", ".gif", ".apng", ".y4m", ".dv", ".dif", ".rm",
    ".rmvb", ".nut", ".nsv", ".amv", ".gxf", ".wtv", ".dvr-ms", ".insv", ".lrv", ".360", ".bik", ".smk",
    # MPEG program and transport streams: discs, broadcasts, camcorders, recorders of surveillance cameras
    ".mpg", ".mpeg", ".mpe", ".mpv", ".mpv2", ".mp2v", ".m1v", ".m2v", ".m2p", ".ps", ".vob", ".vro", ".evo", ".mod",
    ".tod", ".ts", ".tp", ".trp", ".m2t", ".m2ts", ".mts", ".rec", ".dav",
    # a codec's bare stream
    ".h261", ".h263", ".h264", ".264", ".avc", ".h265", ".265", ".hevc", ".h266", ".266", ".vvc", ".av1", ".obu",
    ".ivf", ".mjpg", ".mjpeg",
})  # fmt: skip
MANIFEST_SUFFIXES = frozenset({".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet"})
PACKED_SUFFIXES = frozenset({".csv.gz", ".tsv.gz", ".txt.gz", ".jsonl.gz", ".ndjson.gz", ".json.gz"})
UNFINISHED_SUFFIXES = frozenset({".part", ".crdownload", ".download", ".partial", ".aria2", ".ytdl", ".!qb", ".!ut"})
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".avif"})
"""Suffixes of still images, which a run takes where its recipe says so."""
OTHER_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif", ".svg", ".psd", ".cr2",
    ".cr3", ".nef", ".arw", ".dng", ".mp3", ".wav", ".flac", ".aac", ".m4a", ".ogg", ".opus", ".wma", ".aiff", ".mid",
    ".srt", ".vtt", ".ass", ".ssa", ".sub", ".idx", ".nfo", ".xml", ".html", ".htm", ".md", ".pdf", ".doc", ".docx",
    ".log", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".lock", ".py", ".js", ".sh", ".c", ".h", ".cpp", ".ipynb",
    ".pt", ".pth", ".safetensors", ".npy", ".npz", ".pkl", ".h5", ".db", ".sqlite", ".tmp", ".torrent", ".url",
    ".lnk", ".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".iso", ".thm", ".bdmv", ".ifo",
    ".bup", ".md5", ".sha256", ".exe", ".dll",
})  # fmt: skip
"""Names that say plainly that a file is no video: such a file is not opened to find out."""


def suffix_of(name: str) -> str:
    """Return the suffix in small letters, with the one before it where a list is packed: `.csv.gz`."""
    stem, last = os.path.splitext(name.lower())
    both = os.path.splitext(stem)[1] + last
    return both if both in PACKED_SUFFIXES else last


def is_manifest(name: str) -> bool:
    """Return whether a path or URI names a list of videos."""
    return suffix_of(name) in MANIFEST_SUFFIXES | PACKED_SUFFIXES
