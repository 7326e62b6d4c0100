"""What 1,000 hours of 1080p cost: a default run over some, priced by what it took.

    python -m benchmarks.price [FOLDER] [--prices configs/prices.yaml] [--set KEY=VALUE]

Without FOLDER, six drawn scenes of 5 s with a camera's grain are encoded in 1080p at crf 20, one film. A folder of
your own footage says more. Prints the table of `reel curate --plan --prices`, and the CPU seconds of all processes,
Ray's and the driver's included, which the table does not count by stage.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.cost import CpuMeter, local_ray, sampling_s
from reelwright.curation.ingest.resolve import list_inputs
from reelwright.curation.store import Store
from reelwright.pipelines.annotate.load import load_annotators
from reelwright.pipelines.curate.account import measured
from reelwright.pipelines.curate.price import price_lines
from reelwright.pipelines.curate.run import run_all
from reelwright.pipelines.demo import scenes
from reelwright.pipelines.demo.footage import FPS, _grainy, write_clip
from reelwright.pipelines.recipes.curation import load_recipe, parse_overrides
from reelwright.pipelines.recipes.prices import Prices, load_prices

WIDTH, HEIGHT, SHOT_S = 1920, 1080, 5
SCENES = (scenes.landscape, scenes.city_night, scenes.ferris_wheel, scenes.sea, scenes.aerial, scenes.forest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--prices", type=Path)
    parser.add_argument("--set", dest="settings", action="append", default=[], help="KEY=VALUE over the default recipe")
    args = parser.parse_args()
    recipe = load_recipe(None, parse_overrides(args.settings))
    prices = load_prices(args.prices) if args.prices else Prices()
    with tempfile.TemporaryDirectory() as folder:
        footage = args.folder or drawn(Path(folder) / "footage")
        store = Store.open(Path(folder) / "store", create=True)
        with local_ray():
            meter = CpuMeter()
            before = meter.total_s() - sampling_s(meter)
            run_all(store, recipe, list_inputs([str(footage)]), quiet=True)
            cpu_s = meter.total_s() - sampling_s(meter) - before
            meter.stop()
        account = measured(store, load_annotators(recipe), prices)
        if account is None:
            raise SystemExit("no footage was curated")
        print(*price_lines(account, prices), sep="\n")
        stages_s = sum(work.cpu_s for work in account.stages.values())
        hours = account.footage.hours
        print(f"all processes: {cpu_s:.1f} CPU s, {cpu_s - stages_s:.1f} of them in no stage; "
              f"{cpu_s * 1000 / hours:,.0f} per 1,000 hours")  # fmt: skip


def drawn(folder: Path) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)

    def frames() -> Iterator[np.ndarray]:
        for maker in SCENES:
            scene = maker(rng, WIDTH, HEIGHT)
            yield from (scene(i / FPS) for i in range(SHOT_S * FPS))

    write_clip(folder / "film.mp4", _grainy(frames(), rng))
    return folder


if __name__ == "__main__":
    main()
