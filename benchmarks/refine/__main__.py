"""Refinement: its tables for any input, or how much a small network gains on real footage.

    python -m benchmarks.refine --table [--frames 93] [--size 832x480] [--condition 13] [--spatial-only] [--to 720p]
    python -m benchmarks.refine [../shared/corpus] [--steps 6000] [--seeds 3] [--sheet refine.png] [--keep FOLDER]

With `--table`: size, padding, noise levels and up-sampler positions of one refinement, as the published sampler has
them; `--multiple 1` without copies for whole blocks of latent frames, `--timing exact` without the stretch of time.

Without: curates the corpus' natural footage as `benchmarks.train` does, makes pairs with `reel precompute`'s own code
(reduced to a half in space and in time, degraded, through the codec), trains a DiT of 1.6 M parameters by the
objective `refinement` with `reel train`'s own code, and refines clips that were held out: other moments of the same
shots, as text-to-video, with a first frame given, and as a continuation. Prints `name value` lines against the clip's
own frames, for the refined video and for the plain up-sampled one: PSNR, SSIM, GMSD (gradient similarity; lower is
better) and the error of high frequencies (of the picture without its blurred self, as a share of the clip's; lower is
better), and their difference; the last also against the clip through the codec (`high_of_codec`), since the stand-in
codec loses most of what is fine. With several seeds, means over seeds with 95 % intervals (Student's t); with one, the
interval is over clips. Rows of the sheet: up-sampled, refined, truth, for a few held-out clips.

At the published threshold, 0.5, a latent is half noise, which the published network makes up for by what it knows of
the world, and this one by what it knows of a few shots: that takes it 6000 steps. After 300 the refined clips were 4 dB
below plain up-sampling, after 2400 as far from the truth, with finer detail.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.refine.table import print_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?", default="../shared/corpus", type=Path)
    parser.add_argument("--table", action="store_true", help="print the tables of one refinement")
    parser.add_argument("--frames", default=93, type=int, help="of the first stage")
    parser.add_argument("--size", default="832x480", help="of the first stage, WIDTHxHEIGHT")
    parser.add_argument("--condition", default=0, type=int, help="first frames that were given: 1 a picture, 13")
    parser.add_argument("--spatial-only", action="store_true", help="keep the frame rate")
    parser.add_argument("--to", default="720p", help="size class, or WIDTHxHEIGHT")
    parser.add_argument("--threshold", default=0.5, type=float, help="noise level that refinement begins at")
    parser.add_argument("--multiple", default=4, type=int, help="of latent frames; 4 as published, 1 without copies")
    parser.add_argument("--timing", default="published", choices=["published", "exact"])
    parser.add_argument("--steps", default=6000, type=int, help="of training")
    parser.add_argument("--seeds", default=3, type=int, choices=[1, 2, 3, 4, 5])
    parser.add_argument("--sheet", default=Path("refine.png"), type=Path)
    parser.add_argument("--keep", type=Path, help="folder for store and runs; default: a temporary one")
    parser.add_argument("--threads", default=2, type=int, help="of torch; fewer on a busy machine")
    args = parser.parse_args()
    if args.table:
        print_table(args)
        return
    from benchmarks.refine.footage import FOLDER, measure

    if not (args.corpus / FOLDER).is_dir():
        sys.exit(f"skipped: {args.corpus / FOLDER} is not there; give the corpus' folder")
    with tempfile.TemporaryDirectory() as temporary:
        measure(args.corpus, args.keep or Path(temporary), args)


if __name__ == "__main__":
    main()
