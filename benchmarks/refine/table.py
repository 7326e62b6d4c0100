"""Tables of one refinement: size, padding, noise levels, positions in time."""

import argparse

from reelwright.errors import UserError
from reelwright.model.refinement.plan import Refinement, RefinementPlan


def print_table(args: argparse.Namespace) -> None:
    """Print the plan of a refinement; a sentence where there is none."""
    width, _, height = args.size.partition("x")
    how = Refinement(
        to=args.to,
        spatial_only=args.spatial_only,
        threshold=args.threshold,
        timing=args.timing,
        latent_multiple=args.multiple,
    )
    try:
        plan = how.plan(args.frames, int(height or 0), int(width), args.condition)
        for line in lines(plan, int(width), int(height), args.condition):
            print(line)
    except (UserError, ValueError) as error:
        raise SystemExit(str(error)) from error


def lines(plan: RefinementPlan, width: int, height: int, condition: int) -> list[str]:
    """Return `name value` lines of a plan."""
    pad, positions = plan.padding, plan.positions
    copies = f"{pad.front} copies of the first, {pad.back} of the last"
    timesteps = " ".join(f"{1000 * s:.2f}".rstrip("0").rstrip(".") for s in plan.sigmas.tolist())
    shown = [0, 1, 2, len(positions) // 2, len(positions) - 2, len(positions) - 1]
    places = ", ".join(f"{j} at {positions[j]:.4f}" for j in sorted({j for j in shown if 0 <= j < len(positions)}))
    times = plan.how.times
    late = max(j / times - at for j, at in enumerate(positions.tolist()) if j <= times * (plan.frames - 1))
    return [
        f"first_stage {plan.frames} frames of {width}x{height}, {condition} of them given",
        f"refined {pad.frames} frames of {plan.size.width}x{plan.size.height} (height / width {plan.size.label:.2f})",
        f"condition_frames {pad.condition}",
        f"padding {copies}: {pad.front + pad.frames + pad.back} frames, of which the codec sees {pad.encoded}",
        f"latent_frames {pad.latents} = {pad.cond_latents} of the condition + {pad.noise_latents}",
        f"cut [{pad.front}:{pad.front + pad.frames}]",
        f"timesteps {timesteps}",
        f"upsampler {plan.how.timing}, output frame {places}",
        f"upsampler_lag {late:.4f} frames of the first stage at most",
    ]
