"""Curate every case of a folder as a user would and print, per case, `name pass` or `name fail what`.

    python -m benchmarks.cases ../shared/cases [--only TEXT] [--keep FOLDER]

The folder holds inputs and a `cases.json`: a list of entries with `file`; and, where they apply, `recipe` (KEY=VALUE
over the default recipe), `boundaries` ([first, last] frames of each transition), `state` (failed, where that is right),
`clips` (0, where none is right) and `kind` (a number; default: the one that the file's name begins with). What is right
beyond that is worked out from the file by the ffmpeg command: see `laws.py`, `kinds.py` and `manifests.py`.
`python -m benchmarks.cases.build` makes fresh cases from any footage. Exit code 1 where a case fails.
"""

import argparse
import sys
import tempfile
import traceback
from collections import defaultdict
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

from benchmarks.cases import kinds, laws, manifests
from benchmarks.cases.case import Case, Outcome, curate, load_cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="inputs and their cases.json")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--keep", type=Path, help="keep the stores in this folder")
    args = parser.parse_args()
    cases = [c for c in load_cases(args.folder) if args.only in c.path.name]
    failed = 0
    with nullcontext(args.keep) if args.keep else tempfile.TemporaryDirectory() as work:
        for case, problems in judge(cases, Path(work)):
            failed += bool(problems)
            print(case.path.name, f"fail {'; '.join(problems)}" if problems else "pass", flush=True)
    print(f"{len(cases) - failed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)


def judge(cases: list[Case], work: Path) -> Iterator[tuple[Case, list[str]]]:
    """Each case with its faults. Videos that share a recipe are curated in one run."""
    together = defaultdict(list)
    for case in cases:
        together[case.settings].append(case)
    for number, (settings, group) in enumerate(together.items()):
        videos = [c for c in group if not c.is_manifest]
        outcome = curate([c.path for c in videos], work / f"store{number}", settings) if videos else None
        for case in group:
            if case.is_manifest:
                yield case, _problems(case, manifests.run(case, work / case.path.stem))
            else:
                assert outcome is not None
                yield case, _problems(case, outcome)


def _problems(case: Case, outcome: Outcome) -> list[str]:
    try:
        if case.is_manifest:
            return list(manifests.broken(case, outcome))
        if outcome.exit_code:
            return [f"the run ended with exit code {outcome.exit_code}: {outcome.output.strip()[-300:]}"]
        return [*laws.broken(case, outcome), *kinds.broken(case, outcome)]
    except Exception as error:  # one case must not keep the others from being judged
        return [f"could not be judged: {type(error).__name__}: {error} ({traceback.format_exc().splitlines()[-3]})"]


if __name__ == "__main__":
    main()
