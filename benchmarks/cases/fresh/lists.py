"""Fresh cases of manifests: ids that repeat, spans, captions of every sort, quotes, spaces and marks of encodings."""

import json
from collections.abc import Iterator

from benchmarks.cases.fresh.bench import Bench, Entry, maker

MARK = b"\xef\xbb\xbf"


@maker
def lists(bench: Bench) -> Iterator[Entry]:
    """Each is a list beside which the videos it names are made when it is judged."""
    names = [f"{n:02}.mp4" for n in bench.rng.permutation(40)]
    a, b, c, d = names[:4]
    rows = [{"path": a, "caption": ["one", "two"]}, {"path": b, "caption": None}, {"path": c, "caption": {"en": "x"}}]
    files = {
        "04_ids_fresh.csv": f"path,source_id,caption\n{a},same,one\n{b},same,two\n{c},other,three\n".encode(),
        "04_spans_fresh.csv": f"video,start_time,end_time,caption\n{a},0.0,1.2,one\n{a},1.2,2.8,two\n".encode(),
        "17_mixed_captions.jsonl": "\n".join(map(json.dumps, rows)).encode(),
        "17_quote_fresh.csv": f'caption,path\nfine,{d}\n"never closed,{a}\nx,{b}\ny,{c}\n'.encode(),
        "17_spaces.csv": f" path , caption \n{a}, spaced\n".encode(),
        "33_empty_row.csv": f"path,caption\n{a},one\n  ,no path\n{b},two\n".encode(),
        "33_mark.csv": MARK + f"path,caption\n{a},one\n".encode(),
        "33_mark16.csv": f"path,caption\n{a},one\n".encode("utf-16"),
    }
    for file, data in files.items():
        (bench.out / file).write_bytes(data)
        yield {"file": file, "expect": "rows are accounted for, one by one"}
