"""Statistics of evaluation against simulated truth, and a large evaluation's page.

    python -m benchmarks.evaluation [--repeats 500] [--prompts 100] [--generations 10000] [--skip page]

`mos` and `pairs`: studies of 4 models with known worth, simulated with effects of prompts and videos, raters who are
strict or mild and noisy, and ties; 3 raters per item, 2 more where they disagree. Printed over the repeats: share of
95 % intervals that hold the truth, in which share the models come out in their true order, and mean widths. `judge`:
the correlation with the simulated truth of a judge's soft expectation and of its most likely digit. `page`: seconds to
list, to filter and to report so many generations with ratings, best of 3, videos of 12 prompts included.
"""

import argparse

from benchmarks.evaluation.judge import measure_judge
from benchmarks.evaluation.large import measure_page
from benchmarks.evaluation.studies import measure_mos, measure_pairs

PARTS = ("mos", "pairs", "judge", "page")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", default=500, type=int, help="simulated studies")
    parser.add_argument("--prompts", default=100, type=int, help="of a study")
    parser.add_argument("--generations", default=10_000, type=int, help="of the page")
    parser.add_argument("--skip", default=[], nargs="+", choices=PARTS)
    args = parser.parse_args()
    parts = {
        "mos": lambda: measure_mos(args.repeats, args.prompts),
        "pairs": lambda: measure_pairs(args.repeats, args.prompts),
        "judge": lambda: measure_judge(args.repeats),
        "page": lambda: measure_page(args.generations),
    }
    for name in PARTS:
        if name not in args.skip:
            for figure, value in parts[name]().items():
                print(f"evaluation.{name}.{figure} {value:.4g}", flush=True)


if __name__ == "__main__":
    main()
