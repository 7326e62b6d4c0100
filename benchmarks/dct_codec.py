"""How the DCT codec's coefficients were chosen, and how good its pictures are.

    python -m benchmarks.dct_codec            # PSNR of the codec as it is
    python -m benchmarks.dct_codec --measure  # make the table of model/codec/dct.py again

Footage: scikit-image's colour photographs, each panned and zoomed at several speeds.
"""

import argparse
from collections.abc import Iterator

import cv2
import numpy as np
import torch

from reelwright.model.codec.dct import basis, to_ycc

SPEEDS_PX = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
SIZES = ((256, 256), (480, 832))  # height, width
FRAMES = 9
RGB_ERROR = (3.0, 3.26, 2.48)  # squared RGB error that one unit of Y, Cb, Cr error makes (BT.601)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true")
    if parser.parse_args().measure:
        measure()
    else:
        report()


def report() -> None:
    """`name value` lines: mean PSNR over the footage, of first frames and of the others."""
    from reelwright.model.codec import load_codec
    from reelwright.model.config import CodecConfig

    codec = load_codec(CodecConfig())
    errors: dict[str, list[float]] = {}
    stats = []
    for speed, video in footage():
        latents = codec.encode(video[None])
        error = (codec.decode(latents)[0] - video).square()
        errors.setdefault("first_frame", []).append(error[:, 0].mean().item())
        errors.setdefault(f"speed_{speed:g}px", []).append(error[:, 1:].mean().item())
        stats.append(latents[:, :, 1:].flatten(2).float())
    for name, values in errors.items():
        print(f"dct_codec.psnr_{name}_db {np.mean([10 * np.log10(4 / v) for v in values]):.2f}")
    joined = torch.cat([s[0] for s in stats], 1)
    print(f"dct_codec.largest_abs_channel_mean {joined.mean(1).abs().max():.3f}")
    print(f"dct_codec.channel_std_min {joined.std(1).min():.3f}")
    print(f"dct_codec.channel_std_max {joined.std(1).max():.3f}")


def measure() -> None:
    """Coefficients in the order of the RGB error that leaving them out makes, with their mean and deviation."""
    first, rest = [], []
    for _, video in footage():
        ycc = to_ycc(video[None])
        first.append(_coefficients(ycc[:, :, :1], 1))
        rest.append(_coefficients(ycc[:, :, 1:], 4))
    for name, parts in (("still", first), ("moving", rest)):
        values = torch.cat(parts, 1)  # [3·t·8·8, samples]
        frames = values.shape[0] // 192
        energy = values.square().mean(1) * torch.tensor(RGB_ERROR).repeat_interleave(values.shape[0] // 3)
        order = energy.argsort(descending=True)[:32]
        print(f"{name}: kept by 16 {energy[order[:16]].sum() / energy.sum():.4f}")
        for i in order.tolist():
            plane, t, y, x = np.unravel_index(i, (3, frames, 8, 8))
            mean, std = values[i].mean(), values[i].std()
            print(f"    ({plane}, {t}, {y}, {x}, {mean:.3f}, {std:.3f}),  # {energy[i] / energy.sum():.5f}")


def footage() -> Iterator[tuple[float, torch.Tensor]]:
    """(pixels a frame, video [3, F, H, W] in -1..1)."""
    from skimage import data

    pictures = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), data.stereo_motorcycle()[0]]
    for picture in pictures:
        for height, width in SIZES:
            for k, speed in enumerate(SPEEDS_PX):
                yield speed, moving(picture, (height, width), speed, angle=k * 1.1)


def moving(picture: np.ndarray, size: tuple[int, int], speed: float, angle: float = 0.0) -> torch.Tensor:
    """A camera that pans over `picture` by `speed` pixels a frame and zooms in slowly; video [3, F, H, W]."""
    height, width = size
    room = 1 + 2 * speed * FRAMES / min(size)
    cover = room * max(height / picture.shape[0], width / picture.shape[1])
    how = cv2.INTER_AREA if cover < 1 else cv2.INTER_CUBIC
    large = cv2.resize(picture, None, fx=cover, fy=cover, interpolation=how)
    frames = []
    for i in range(FRAMES):
        zoom = 1 + (0.002 * i if speed else 0.0)
        turn = np.array([[zoom, 0, 0], [0, zoom, 0]], np.float64)
        shift = np.array([np.cos(angle), np.sin(angle)]) * speed * (i - FRAMES / 2)
        centre = np.array([large.shape[1], large.shape[0]]) / 2
        turn[:, 2] = np.array([width, height]) / 2 - zoom * centre + shift
        frames.append(cv2.warpAffine(large, turn, (width, height), borderMode=cv2.BORDER_REFLECT))
    return torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2).float() / 127.5 - 1


def _coefficients(ycc: torch.Tensor, frames: int) -> torch.Tensor:
    """All coefficients, [3·t·8·8, samples]."""
    batch, planes, length, height, width = ycc.shape
    cut = ycc.reshape(batch, planes, length // frames, frames, height // 8, 8, width // 8, 8)
    cut = cut.permute(0, 1, 2, 4, 6, 3, 5, 7).flatten(5)  # [1, 3, T, h, w, t·64]
    return torch.einsum("bcthwn,kn->ckbthw", cut, basis(frames)).flatten(0, 1).flatten(1)


if __name__ == "__main__":
    main()
