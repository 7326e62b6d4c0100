"""What 1,000 hours of 1080p cost: a default run over some, priced by what it took.

    python -m benchmarks.price [FOLDER] [--prices configs/prices.yaml] [--set KEY=VALUE]
    python -m benchmarks.price --on-s3 --films 4 12 --set batches.commit_s=3600     # requests

Without FOLDER, six drawn scenes of 5 s with a camera's grain are encoded in 1080p at crf 20, one film. A folder of
your own footage says more. Prints the table of `reel curate --plan --prices`, and the CPU seconds of all processes,
Ray's and the driver's included, which the table does not count by stage.

`--on-s3` puts inputs and store into buckets of the tests' S3 server, on loopback, so that requests are counted; the
server's CPU seconds are not. A run asks for some things once, whatever its size, and that much more per 1,000 hours the
smaller it is: with two numbers of films each is curated by itself, and the last table is of what the second took more.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import numpy as np
import psutil

from benchmarks.cost import CpuMeter, local_ray, sampling_s
from reelwright.curation.ingest.resolve import list_inputs
from reelwright.curation.store import Store
from reelwright.pipelines.annotate.load import load_annotators
from reelwright.pipelines.curate.account import Account, Footage, measured
from reelwright.pipelines.curate.price import PER_HOURS, price_lines
from reelwright.pipelines.curate.run import run_all
from reelwright.pipelines.demo import scenes
from reelwright.pipelines.demo.footage import FPS, _grainy, write_clip
from reelwright.pipelines.recipes.curation import CurateRecipe, load_recipe, parse_overrides
from reelwright.pipelines.recipes.prices import Prices, load_prices
from tests.pipelines.object_store import ObjectStore, environment

WIDTH, HEIGHT, SHOT_S = 1920, 1080, 5
SCENES = (scenes.landscape, scenes.city_night, scenes.ferris_wheel, scenes.sea, scenes.aerial, scenes.forest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--prices", type=Path)
    parser.add_argument("--set", dest="settings", action="append", default=[], help="KEY=VALUE over the default recipe")
    parser.add_argument("--on-s3", action="store_true", help="inputs and store in buckets of a server on loopback")
    parser.add_argument("--films", type=int, nargs="+", default=[1], help="drawn films of a run; two numbers: two runs")
    args = parser.parse_args()
    recipe = load_recipe(None, parse_overrides(args.settings))
    prices = load_prices(args.prices) if args.prices else Prices()
    with tempfile.TemporaryDirectory() as folder:
        film = None if args.folder else drawn(Path(folder) / "film.mp4")
        accounts = []
        for number in args.films:
            place = Path(folder) / f"run {number}"
            footage = copied(film, number, place / "footage") if film else args.folder
            accounts.append(curated(footage, place, recipe, prices, on_s3=args.on_s3))
    if len(accounts) > 1:
        print(*price_lines(beyond(*accounts[-2:]), prices), sep="\n")


def curated(footage: Path, place: Path, recipe: CurateRecipe, prices: Prices, *, on_s3: bool) -> Account:
    """Curate a folder into a new store, and say what it took."""
    with places(footage, place, on_s3) as (inputs, store_uri, server), local_ray():
        store, meter = Store.open(store_uri, create=True), CpuMeter()
        before = meter.total_s() - sampling_s(meter) - cpu_of(server)
        run_all(store, recipe, list_inputs([inputs]), quiet=True)
        cpu_s = meter.total_s() - sampling_s(meter) - cpu_of(server) - before
        meter.stop()
        account = measured(store, load_annotators(recipe), prices)
    if account is None:
        raise SystemExit("no footage was curated")
    print(*price_lines(account, prices), sep="\n")
    stages_s = sum(work.cpu_s for work in account.stages.values())
    print(f"all processes: {cpu_s:.1f} CPU s, {cpu_s - stages_s:.1f} of them in no stage; "
          f"{cpu_s * PER_HOURS / account.footage.hours:,.0f} per {PER_HOURS:,} hours", flush=True)  # fmt: skip
    return account


@contextmanager
def places(footage: Path, place: Path, on_s3: bool) -> Iterator[tuple[str, str, int | None]]:
    """Inputs, the store to make, and the process of the server that holds them, if one does."""
    if not on_s3:
        yield str(footage), str(place / "store"), None
        return
    os.environ.update(environment())
    with ObjectStore() as server:
        bucket = server.bucket("price", *sorted(p for p in footage.rglob("*") if p.is_file()))
        yield f"{bucket}/in", f"{bucket}/store", server.process.pid


def cpu_of(process: int | None) -> float:
    times = psutil.Process(process).cpu_times() if process else None
    return times.user + times.system if times else 0.0


def beyond(one: Account, other: Account) -> Account:
    """What the other took more than the one, for as much more footage."""
    more = {f.name: getattr(other.footage, f.name) - getattr(one.footage, f.name) for f in fields(Footage)}
    stages = {name: work + one.stages[name].times(-1) for name, work in other.stages.items() if name in one.stages}
    return Account(Footage(**more), stages, "as the second run took more than the first")


def drawn(film: Path) -> Path:
    rng = np.random.default_rng(0)

    def frames() -> Iterator[np.ndarray]:
        for maker in SCENES:
            scene = maker(rng, WIDTH, HEIGHT)
            yield from (scene(i / FPS) for i in range(SHOT_S * FPS))

    write_clip(film, _grainy(frames(), rng))
    return film


def copied(film: Path, number: int, folder: Path) -> Path:
    """A folder with so many films of one content, which an empty box at their end makes files of their own."""
    folder.mkdir(parents=True)
    for index in range(number):
        content = index.to_bytes(4, "big")
        box = (8 + len(content)).to_bytes(4, "big") + b"free" + content
        (folder / f"film {index}.mp4").write_bytes(film.read_bytes() + box)
    return folder


if __name__ == "__main__":
    main()
