"""Make fresh cases of every kind from footage of your own.

    python -m benchmarks.cases.build OUT --footage FOLDER --seed 1 [--part 0/2] [--only dark_and_white]

FOLDER holds videos and pictures (each some seconds, or large enough to be filmed); OUT gets the inputs and their
`cases.json`, for `python -m benchmarks.cases OUT`. --part takes every second file, so that two sets share no footage.
"""

import argparse
import importlib
import json
import pkgutil
from pathlib import Path

import numpy as np

from benchmarks.cases import fresh
from benchmarks.cases.fresh.bench import MAKERS, PICTURES, VIDEOS, Bench


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to fill")
    parser.add_argument("--footage", type=Path, required=True, help="videos and pictures to make scenes of")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", default="0/1", help="NUMBER/OF: every OFth file from NUMBER on")
    parser.add_argument("--only", default="", help="one maker by its name")
    args = parser.parse_args()
    for module in pkgutil.iter_modules(fresh.__path__, f"{fresh.__name__}."):
        importlib.import_module(module.name)
    number, of = map(int, args.part.split("/"))
    files = sorted(f for f in args.footage.iterdir() if f.suffix.lower() in PICTURES | VIDEOS)[number::of]
    args.out.mkdir(parents=True, exist_ok=True)
    entries = []
    for name, make in sorted(MAKERS.items()):
        if args.only in ("", name):
            entries += list(make(Bench(args.out, files, np.random.default_rng([args.seed, *name.encode()]))))
    (args.out / "cases.json").write_text(json.dumps(entries, indent=1) + "\n")
    print(f"{len(entries)} cases in {args.out}")


if __name__ == "__main__":
    main()
