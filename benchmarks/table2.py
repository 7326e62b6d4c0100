"""Table 2 of the report (arXiv 2510.22200) by the FLOP model at full size, with our settings, beside its ratios; and
below them rows of a student of 4 steps, which the report has not.

    python -m benchmarks.table2                                          # with rates fitted to the report's plain rows
    python -m benchmarks.table2 --products 690 --attention 545 --sparse 400 --vae 250   # TFLOP/s of another machine
    python -m benchmarks.table2 --vae-flops                              # count the VAE's operations again (diffusers)

A row's time is its network calls × the network's operations (`model/flops.py`: matrix products, and attention of the
pairs that are computed) over the two rates, and the VAE's: what is decoded, and before refinement encoded. Captions are
encoded once and left out. Sizes, padding and noise levels of refinement are those of `model/refinement`, steps those of
`model/sampling`.

The default rates come from the report alone: at two sizes it gives 50 guided steps (100 calls) and 16 plain ones, so a
call's time at either size, and from these the rates of products and attention; the rest at 480p is the VAE's. The last
columns: what the report's time leaves for the VAE once its calls are taken off at these rates, and the VAE's rate from
which a row reaches the report's ratio.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace

from reelwright.model.config import STRIDE, AttentionConfig, DiTConfig
from reelwright.model.flops import attention_flops, forward_flops
from reelwright.model.refinement.plan import Refinement
from reelwright.model.sampling.schedules import Schedule

NETWORK = DiTConfig()
TEXT_TOKENS = 130
"""Keys per caption: its tokens and two for the padding, in the mean of `benchmarks.text`."""
DECODE_FLOPS, ENCODE_FLOPS = 8.91e6, 5.33e6
"""Of Wan 2.1's VAE per pixel of a frame (`--vae-flops`)."""
FRAMES, CASE_480P, CASE_720P = 93, (480, 832), (720, 1280)


@dataclass(frozen=True)
class Rates:
    """TFLOP/s that are reached: by matrix products, dense and block-sparse attention, and the VAE's convolutions."""

    products: float
    attention: float
    sparse: float
    vae: float


@dataclass(frozen=True)
class Calls:
    """Network calls at one size: latent frames, height and width in pixels, share of key blocks kept (1: dense)."""

    count: int
    latents: int
    height: int
    width: int
    keep: float = 1.0

    def flops(self) -> tuple[int, int]:
        """(matrix products, attention) of all calls."""
        _, rows, columns = NETWORK.patch_size
        grid = (self.latents, self.height // STRIDE[1] // rows, self.width // STRIDE[2] // columns)
        form = AttentionConfig() if self.keep == 1 else AttentionConfig(form="sparse", keep=self.keep)
        own = NETWORK.depth * attention_flops(NETWORK, grid, 0, TEXT_TOKENS, form)[0]
        whole = forward_flops(NETWORK, grid, batch=1, cond_frames=0, text_tokens=TEXT_TOKENS, attention=form)
        return self.count * (whole - own), self.count * own

    def seconds(self, rates: Rates) -> float:
        """Time of all calls."""
        products, attention = self.flops()
        pairs = rates.sparse if self.keep < 1 else rates.attention
        return products / rates.products / 1e12 + attention / pairs / 1e12


@dataclass(frozen=True)
class Row:
    """A row of the table.

    decoded, encoded: pixels × frames of the VAE. seconds: the report's; 0: it has no such row. over: the report's
    seconds of the row that its ratio compares with.
    """

    name: str
    calls: tuple[Calls, ...]
    decoded: int
    encoded: int
    seconds: float
    over: float

    def vae_seconds(self, rates: Rates) -> float:
        """Time of the VAE."""
        return (self.decoded * DECODE_FLOPS + self.encoded * ENCODE_FLOPS) / rates.vae / 1e12

    def flops(self) -> tuple[int, int]:
        """(matrix products, attention) of all calls of the network."""
        products, attention = zip(*(calls.flops() for calls in self.calls), strict=True)
        return sum(products), sum(attention)

    def network_seconds(self, rates: Rates) -> float:
        """Time of the network."""
        return sum(calls.seconds(rates) for calls in self.calls)

    def total(self, rates: Rates) -> float:
        """Time of all."""
        return self.network_seconds(rates) + self.vae_seconds(rates)


def table(keep: float = 1 / 16) -> list[Row]:
    """Return the report's rows with our settings; its ratios compare with 480p or 720p, 93 frames, 50 steps."""
    guided, student = 2 * Schedule().steps, len(Schedule(16, distilled=True).sigmas()) - 1
    plain = [
        _plain("480p x 93, 50 guided steps", guided, CASE_480P, 341.5, 341.5),
        _plain("480p x 93, 16 steps", student, CASE_480P, 61.3, 341.5),
        _plain("720p x 93, 50 guided steps", guided, CASE_720P, 1429.5, 1429.5),
        _plain("720p x 93, 16 steps", student, CASE_720P, 244.6, 1429.5),
    ]
    refined = []
    for spatial, dense, sparse in ((True, 135.3, 116.5), (False, 302.9, 142.0)):
        how = Refinement(spatial_only=spatial)
        for share, seconds in ((1.0, dense), (keep, sparse)):
            refined.append(_refined(how, student, share, seconds))
    return plain + refined


def beyond(keep: float = 1 / 16) -> list[Row]:
    """Return rows that the report has not: a student of 4 steps (`configs/train/distill-dmd.yaml`) in its place."""
    student = len(Schedule(4, distilled=True).sigmas()) - 1
    plain = [
        _plain(f"{name} x 93, {student} steps", student, size, 0, over)
        for name, size, over in (("480p", CASE_480P, 341.5), ("720p", CASE_720P, 1429.5))
    ]
    ways = [Refinement(spatial_only=spatial) for spatial in (True, False)]
    return plain + [_refined(how, student, share, 0) for how in ways for share in (1.0, keep)]


def _plain(name: str, count: int, size: tuple[int, int], seconds: float, over: float) -> Row:
    latents = 1 + (FRAMES - 1) // STRIDE[0]
    return Row(name, (Calls(count, latents, *size),), FRAMES * size[0] * size[1], 0, seconds, over)


def _refined(how: Refinement, student: int, keep: float, seconds: float) -> Row:
    first = _plain("", student, CASE_480P, 0, 0)
    plan = how.plan(FRAMES, *CASE_480P)
    steps, pixels = len(plan.sigmas) - 1, plan.padding.encoded * plan.size.height * plan.size.width
    calls = Calls(steps, plan.padding.latents, plan.size.height, plan.size.width, keep)
    shown = 93 if how.spatial_only else 189
    name = f"480p -> 720p x {shown}, {student} + {steps} steps" + (f", {1 - keep:.2%} sparse" if keep < 1 else "")
    return Row(name, (*first.calls, calls), first.decoded + pixels, pixels, seconds, 1429.5)


def report_rates() -> Rates:
    """Rates that give the report's plain rows: a call at either size and both rows of 480p exactly.

    Sparse attention is taken to be as quick per pair as dense.
    """
    rows = table()
    pairs, times = [], []
    for guided, short in ((rows[0], rows[1]), (rows[2], rows[3])):
        one = replace(guided.calls[0], count=1)
        pairs.append(one.flops())
        times.append((guided.seconds - short.seconds) / (guided.calls[0].count - short.calls[0].count))
    (a, b), (c, d) = pairs
    det = a * d - b * c
    per_product, per_attention = (times[0] * d - b * times[1]) / det, (a * times[1] - times[0] * c) / det
    network = Rates(1e-12 / per_product, 1e-12 / per_attention, 1e-12 / per_attention, 1.0)
    left = rows[1].seconds - rows[1].network_seconds(network)
    return replace(network, vae=rows[1].decoded * DECODE_FLOPS / left / 1e12)


def lines(rows: list[Row], rates: Rates, fitted: Rates) -> Iterator[str]:
    """Yield the table: ratios of operations, of the network's time, and with the VAE's time, beside the report's."""
    bases = {row.seconds: row for row in rows if row.seconds}
    yield (
        "| variant | calls | PFLOP | of it attention | ratio | report | | network s | ratio | | VAE s | ratio with it "
        "| | report leaves, s | reached from, VAE TFLOP/s |"
    )
    yield "|---" * 15 + "|"
    for row in rows:
        base, asked = bases[row.over], row.over / row.seconds if row.seconds > 0 else 0.0
        operations = sum(row.flops()) / 1e15
        counted = sum(base.flops()) / sum(row.flops())
        alone = base.network_seconds(rates) / row.network_seconds(rates)
        whole = base.total(rates) / row.total(rates)
        cells = (
            row.name,
            " + ".join(str(calls.count) for calls in row.calls),
            f"{operations:.0f}",
            f"{row.flops()[1] / 1e15:.0f}",
            f"{counted:.2f}",
            *((f"{asked:.2f}", _verdict(counted, asked)) if asked else ("", "")),
            f"{row.network_seconds(rates):.1f}",
            f"{alone:.2f}",
            _verdict(alone, asked) if asked else "",
            f"{row.vae_seconds(rates):.1f}",
            f"{whole:.2f}",
            *((_verdict(whole, asked), *_left(row, base, rates, fitted)) if asked else ("", "", "")),
        )
        yield f"| {' | '.join(cells)} |"


def _verdict(ratio: float, asked: float) -> str:
    if asked == 1:
        return ""
    return "reached" if ratio > asked * (1 - 1e-9) else f"below, by {1 - ratio / asked:.1%}"


def _left(row: Row, base: Row, rates: Rates, fitted: Rates) -> tuple[str, str]:
    """Return what the report's time leaves for the VAE, and the VAE's rate from which a row reaches its ratio."""
    left = f"{row.seconds - row.network_seconds(fitted):.1f}"
    return left, "" if row is base else enough_vae(row, base, rates)


def enough_vae(row: Row, base: Row, rates: Rates) -> str:
    """Say from which rate of the VAE on `row` reaches the report's ratio; "none" where not even a free VAE would do."""
    asked, unit = row.over / row.seconds, replace(rates, vae=1.0)
    room = base.network_seconds(rates) - asked * row.network_seconds(rates)
    needed = asked * row.vae_seconds(unit) - base.vae_seconds(unit)
    if needed <= 0:
        return "any" if room >= needed else "none"
    return f"{needed / room:.0f}" if room > 0 else "none"


def vae_flops() -> tuple[float, float]:
    """(decoding, encoding): operations per pixel of a frame, by PyTorch's counter on tensors without storage."""
    import torch
    from diffusers import AutoencoderKLWan
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    frames, side = 5, 256
    found = []
    with FakeTensorMode(), torch.no_grad():
        vae = AutoencoderKLWan()
        latents = torch.empty(1, 16, 1 + (frames - 1) // STRIDE[0], side // STRIDE[1], side // STRIDE[2])
        for work, given in ((vae.decode, latents), (vae.encode, torch.empty(1, 3, frames, side, side))):
            with FlopCounterMode(display=False) as counter:
                work(given)
            found.append(counter.get_total_flops() / (frames * side * side))
    return found[0], found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    fitted = report_rates()
    for name, value in vars(fitted).items():
        parser.add_argument(f"--{name}", type=float, default=value, help="TFLOP/s (default: %(default).0f)")
    parser.add_argument("--keep", type=float, default=1 / 16, help="share of key blocks that sparse attention keeps")
    parser.add_argument("--vae-flops", action="store_true", help="count the VAE's operations, and do nothing else")
    options = parser.parse_args()
    if options.vae_flops:
        decoding, encoding = vae_flops()
        print(f"vae.decode_flops_per_px {decoding:.4g}\nvae.encode_flops_per_px {encoding:.4g}")
        return
    rates = Rates(options.products, options.attention, options.sparse, options.vae)
    print(", ".join(f"{name} {value:.0f}" for name, value in vars(rates).items()), "TFLOP/s", end="\n\n")
    print(*lines(table(options.keep) + beyond(options.keep), rates, fitted), sep="\n")


if __name__ == "__main__":
    main()
