"""Which changes of the code that decides numbers no test notices.

    python -m benchmarks.mutation                       # a sample of every module: hours on one core
    python -m benchmarks.mutation training/data --mutants 1000 --minutes 20

A module is changed in one place at a time (a comparison, an operator, a constant: `benchmarks.mutation.mutants`), in
memory alone, and the few test files that cover it run until one fails. Prints a line per change that none noticed, and
`mutation.MODULE.killed N of M` lines. Changes of lines that these tests never run are counted as `not run` and not
tried. A survivor is to be judged: some changes are no change (`<` for `<=` between numbers that are never equal).
"""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.mutation.mutants import Mutant, mutants
from benchmarks.mutation.trial import Trial

ROOT = Path(__file__).parents[2]
DATA, KERNELS, SAMPLING = "tests/training/data", "tests/kernels", "tests/model/sampling"
REWARDS, BUDGET = "tests/training/rewards", "tests/training/budget"
OBJECTIVES, RL, TUNING = "tests/training/objectives", "tests/training/rl", "tests/training/tuning"
QWEN, WEIGHTS = f"{REWARDS}/qwen2_vl", "tests/training/weights"
BOTH = [f"{QWEN}/test_hpsv3.py", f"{QWEN}/test_videoalign.py"]
COVERED: dict[str, list[str]] = {
    "training/data/buckets.py": [f"{DATA}/test_buckets.py"],
    "training/data/draws.py": [f"{DATA}/test_draws.py", f"{DATA}/test_schedule.py"],
    "training/data/beside.py": [f"{DATA}/test_rounds.py"],
    "training/data/mixture.py": [f"{DATA}/test_mixture.py", f"{DATA}/test_rounds.py"],
    "training/data/rounds.py": [f"{DATA}/test_rounds.py", f"{DATA}/test_draws.py", f"{DATA}/test_schedule.py"],
    "training/data/plan.py": [f"{DATA}/test_draws.py", f"{DATA}/test_schedule.py"],
    "training/data/schedule.py": [f"{DATA}/test_draws.py", f"{DATA}/test_schedule.py"],
    "training/data/windows.py": [f"{DATA}/test_windows.py"],
    "training/data/holdout.py": [f"{DATA}/test_schedule.py"],
    "training/data/mix_plan.py": [f"{DATA}/test_mix.py"],
    "training/data/mix_rows.py": [f"{DATA}/test_mix_store.py"],
    "training/data/mix_steps.py": [f"{DATA}/test_mix.py"],
    "training/data/pairs.py": [f"{DATA}/test_pairs.py"],
    "training/data/degrade.py": [f"{DATA}/test_degrade.py"],
    "training/data/rows.py": [f"{DATA}/test_loader.py"],
    "training/data/latents.py": [f"{DATA}/test_sample_index.py", f"{DATA}/test_loader.py"],
    "training/data/sample_index.py": [f"{DATA}/test_sample_index.py", f"{DATA}/test_loader.py"],
    "training/data/encode.py": [f"{DATA}/test_loader.py", "tests/training/test_origins.py"],
    "training/data/fresh.py": [f"{DATA}/test_origins.py", f"{DATA}/test_pairs.py"],
    "training/data/loader.py": [f"{DATA}/test_loader.py"],
    "training/data/prepared.py": [f"{DATA}/test_prepared.py", f"{DATA}/test_loader.py"],
    "training/data/disk_cache.py": [f"{DATA}/test_origins.py"],
    "training/objectives/flow.py": [f"{OBJECTIVES}/test_flow.py"],
    "training/objectives/refinement.py": [f"{OBJECTIVES}/test_refinement.py"],
    "training/objectives/cfg_distillation.py": [f"{OBJECTIVES}/test_distillation.py"],
    "training/objectives/consistency.py": [f"{OBJECTIVES}/test_distillation.py"],
    "training/objectives/dmd.py": [f"{OBJECTIVES}/test_dmd.py"],
    "training/objectives/grpo.py": [f"{RL}/test_grpo.py"],
    "training/objectives/nft.py": [f"{RL}/test_nft.py"],
    "training/objectives/distilling/distillation.py": [f"{OBJECTIVES}/test_distillation.py"],
    "training/objectives/distilling/teacher.py": [f"{OBJECTIVES}/test_distillation.py", f"{OBJECTIVES}/test_dmd.py"],
    "training/objectives/distilling/critic.py": [f"{OBJECTIVES}/test_dmd.py"],
    "training/rl/advantages.py": [f"{RL}/test_advantages.py"],
    "training/rl/stop_rule.py": [f"{RL}/test_watch.py"],
    "training/rl/hacking.py": [f"{RL}/test_watch.py"],
    "training/rl/streams.py": [f"{RL}/test_grpo.py", f"{RL}/test_nft.py"],
    "training/rl/velocity.py": [f"{RL}/test_grpo.py", f"{RL}/test_nft.py"],
    "training/rl/paths.py": [f"{RL}/test_grpo.py"],
    "training/rl/reduction.py": [f"{RL}/test_grpo.py", f"{RL}/test_nft.py"],
    "training/rl/rollouts.py": [f"{RL}/test_rollouts.py"],
    "training/rl/figures.py": [f"{RL}/test_figures.py", f"{RL}/test_watch.py"],
    "training/rl/scores.py": [f"{RL}/test_figures.py", f"{RL}/test_rollouts.py"],
    "training/rl/meters.py": [f"{RL}/test_watch.py", f"{RL}/test_grpo.py", f"{RL}/test_nft.py"],
    "training/rl/watch.py": [f"{RL}/test_watch.py"],
    "training/rl/prompts.py": [f"{RL}/test_rollouts.py"],
    "training/rl/videos.py": [f"{RL}/test_rollouts.py"],
    "training/rl/config.py": [f"{RL}/test_figures.py", f"{RL}/test_identity.py", f"{RL}/test_watch.py"],
    "training/rl/identity.py": [f"{RL}/test_identity.py"],
    "training/batch.py": [f"{OBJECTIVES}/test_flow.py", "tests/training/distributed/test_context.py"],
    "training/validation.py": ["tests/training/test_validation.py"],
    "training/stopping.py": ["tests/training/test_stopping.py"],
    "training/rehearsal.py": ["tests/training/test_rehearsal.py"],
    "training/clip_losses.py": ["tests/training/test_clip_losses.py"],
    "training/checkpoints.py": ["tests/training/test_checkpoints.py"],
    "training/shards.py": ["tests/training/test_checkpoints.py"],
    "training/recipe.py": ["tests/training/test_recipe.py"],
    "training/loop.py": ["tests/training/test_loop.py"],
    "training/optim.py": ["tests/training/test_optim.py"],
    "training/guard.py": ["tests/training/test_guard.py"],
    "training/ema.py": ["tests/training/test_optim.py"],
    "training/rewards/calling.py": [f"{REWARDS}/test_in_process.py"],
    "training/rewards/drift.py": [f"{REWARDS}/test_standins.py"],
    "training/rewards/smoothness_standin.py": [f"{REWARDS}/test_standins.py"],
    "training/rewards/caption_attributes_standin.py": [f"{REWARDS}/test_standins.py"],
    "training/rewards/pixels/flow.py": [f"{REWARDS}/test_standins.py"],
    "training/rewards/pixels/frames.py": [f"{REWARDS}/test_standins.py"],
    "training/rewards/judge.py": [f"{REWARDS}/test_judge.py", f"{REWARDS}/test_judge_calibration.py"],
    "training/rewards/annotation.py": [f"{REWARDS}/test_annotation.py"],
    "training/rewards/qwen2_vl/cost.py": BOTH,
    "training/rewards/qwen2_vl/frames.py": [f"{QWEN}/test_parts.py", f"{QWEN}/test_hpsv3.py"],
    "training/rewards/qwen2_vl/instruction.py": [f"{QWEN}/test_parts.py", f"{QWEN}/test_hpsv3.py"],
    "training/rewards/qwen2_vl/tokens.py": [f"{QWEN}/test_parts.py"],
    "training/rewards/qwen2_vl/lora.py": [f"{QWEN}/test_parts.py", f"{QWEN}/test_videoalign.py"],
    "training/rewards/qwen2_vl/files.py": [f"{QWEN}/test_parts.py", *BOTH],
    "training/rewards/qwen2_vl/hpsv3.py": [f"{QWEN}/test_hpsv3.py"],
    "training/rewards/qwen2_vl/network.py": [f"{QWEN}/test_hpsv3.py"],
    "training/rewards/qwen2_vl/reader.py": [f"{QWEN}/test_parts.py", *BOTH],
    "training/rewards/qwen2_vl/reward.py": BOTH,
    "training/rewards/qwen2_vl/source.py": BOTH,
    "training/rewards/qwen2_vl/videoalign.py": [f"{QWEN}/test_videoalign.py"],
    "training/rewards/qwen2_vl/videoalign_checkpoint.py": [f"{QWEN}/test_videoalign.py"],
    "training/rewards/qwen2_vl/weight_names.py": BOTH,
    "training/rewards/remote/protocol.py": [f"{REWARDS}/test_service.py"],
    "training/budget/memory.py": [f"{BUDGET}/test_memory.py", f"{BUDGET}/test_held.py"],
    "training/budget/activations.py": [f"{BUDGET}/test_memory.py", f"{BUDGET}/test_pairs.py"],
    "training/budget/traced.py": [f"{BUDGET}/test_memory.py"],
    "training/budget/live_bytes.py": [f"{BUDGET}/test_held.py", f"{BUDGET}/test_memory.py"],
    "training/budget/rollouts.py": [f"{BUDGET}/test_rollouts.py"],
    "training/budget/pairs.py": [f"{BUDGET}/test_pairs.py"],
    "training/budget/throughput.py": [f"{BUDGET}/test_throughput.py"],
    "training/budget/step_time.py": [f"{BUDGET}/test_step_time.py"],
    "training/budget/step_trace.py": [f"{BUDGET}/test_step_trace.py"],
    "training/budget/operations.py": [f"{BUDGET}/test_operations.py"],
    "training/budget/sampling.py": [f"{BUDGET}/test_sampling.py"],
    "training/budget/devices.py": [f"{BUDGET}/test_devices.py", f"{BUDGET}/test_throughput.py"],
    "training/distributed/strips.py": ["tests/training/distributed/test_context.py"],
    "training/distributed/partial_attention.py": ["tests/training/distributed/test_context.py"],
    "training/distributed/context.py": ["tests/training/distributed/test_context.py", f"{BUDGET}/test_step_trace.py"],
    "training/tuning/calibration.py": ["tests/training/tuning/test_rated.py"],
    "training/tuning/preference.py": ["tests/training/tuning/test_rated.py"],
    "training/tuning/engine.py": [f"{TUNING}/test_engine.py"],
    "training/tuning/feed.py": [f"{TUNING}/test_engine.py"],
    "training/tuning/plan.py": [f"{TUNING}/test_plan.py"],
    "training/tuning/samples.py": [f"{TUNING}/test_plan.py", f"{TUNING}/test_conversations.py"],
    "training/tuning/objective.py": [f"{TUNING}/test_plan.py", f"{TUNING}/test_template.py"],
    "training/tuning/chosen.py": [f"{TUNING}/test_chosen.py"],
    "training/tuning/scoring.py": [f"{TUNING}/test_chosen.py", f"{TUNING}/test_rated.py"],
    "training/tuning/conversations.py": [f"{TUNING}/test_conversations.py"],
    "training/tuning/template.py": [f"{TUNING}/test_template.py"],
    "training/tuning/rows.py": [f"{TUNING}/test_rows.py"],
    "training/tuning/recipe.py": [f"{TUNING}/test_conversations.py", f"{TUNING}/test_measures.py"],
    "training/tuning/judge_file.py": [f"{REWARDS}/test_judge_calibration.py"],
    "training/tuning/videos.py": [f"{TUNING}/test_measures.py"],
    "training/tuning/answers.py": [f"{TUNING}/test_measures.py"],
    "training/tuning/predict.py": [f"{TUNING}/test_measures.py"],
    "training/tuning/base.py": [f"{TUNING}/test_measures.py"],
    "training/tuning/uses.py": [f"{TUNING}/test_measures.py"],
    "training/tuning/run.py": [f"{TUNING}/test_captioner.py"],
    "training/tuning/lineage.py": [f"{TUNING}/test_captioner.py"],
    "training/weights/convert.py": [f"{WEIGHTS}/test_checkpoint_cli.py"],
    "training/weights/describe.py": [f"{WEIGHTS}/test_describe.py", f"{WEIGHTS}/test_formats_cli.py"],
    "training/weights/formats.py": [f"{WEIGHTS}/test_formats_cli.py"],
    "training/weights/verify.py": [f"{WEIGHTS}/test_describe.py", f"{WEIGHTS}/test_formats_cli.py"],
    "training/logs.py": ["tests/training/test_logs.py", "tests/training/test_loop.py"],
    "training/roles.py": ["tests/training/test_roles.py"],
    "training/adapters.py": ["tests/training/test_adapters.py"],
    "curation/clips.py": ["tests/curation/test_clips.py"],
    "curation/dedup.py": ["tests/curation/test_dedup.py"],
    "model/flops.py": ["tests/model/test_flops.py"],
    "model/sampling/guidance.py": [f"{SAMPLING}/test_solvers.py", f"{SAMPLING}/test_parity.py"],
    "model/sampling/schedules.py": [f"{SAMPLING}/test_solvers.py", f"{SAMPLING}/test_parity.py"],
    "model/sampling/solvers.py": ["tests/model/sampling/test_solvers.py"],
    "model/sampling/sde.py": [f"{SAMPLING}/test_sde.py"],
    "model/sampling/settings.py": ["tests/model/sampling/test_generator.py"],
    "model/sampling/generator.py": [f"{SAMPLING}/test_generator.py", f"{SAMPLING}/test_parity.py"],
    "kernels/blocks.py": [f"{KERNELS}/test_blocks.py", f"{KERNELS}/test_attention.py"],
    "kernels/lists.py": [f"{KERNELS}/test_lists.py", f"{KERNELS}/test_selection.py", f"{KERNELS}/test_attention.py"],
    "kernels/means.py": [f"{KERNELS}/test_selection.py"],
    "kernels/patterns.py": [f"{KERNELS}/test_selection.py"],
    "kernels/ranking.py": [f"{KERNELS}/test_selection.py"],
    "kernels/selection.py": [f"{KERNELS}/test_selection.py"],
    "kernels/reference.py": [f"{KERNELS}/test_attention.py"],
    "kernels/operator.py": [f"{KERNELS}/test_operator.py", f"{KERNELS}/test_attention.py"],
    "kernels/call.py": [f"{KERNELS}/test_attention.py", f"{KERNELS}/test_operator.py"],
    "kernels/attention.py": [f"{KERNELS}/test_attention.py", f"{KERNELS}/test_operator.py"],
    "kernels/ring.py": [f"{KERNELS}/test_ring.py"],
}
"""Module -> the test files that hold its laws, without other processes: a change is in this process alone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", help="paths, or what they begin with; all if none")
    parser.add_argument("--mutants", type=int, default=25, help="of a module, at most: a sample")
    parser.add_argument("--minutes", type=float, default=60, help="begin none later")
    parser.add_argument("--marks", default="", help='of tests, as pytest -m: "not exhaustive" are those of `make test`')
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    options = parser.parse_args()
    chosen = [m for m in COVERED if not options.modules or m.startswith(tuple(options.modules))]
    if not chosen:
        sys.exit(f"no module begins with {' or '.join(options.modules)}; there are {', '.join(COVERED)}")
    until = time.monotonic() + 60 * options.minutes
    for module in chosen:
        if time.monotonic() > until:
            print(f"mutation.{module} left out: no time")
            continue
        for line in lines(module, options, until):
            print(line, flush=True)


def lines(module: str, options: argparse.Namespace, until: float) -> Iterator[str]:
    """Try a sample of a module's changes; what is told of them."""
    trial = Trial(ROOT, module, COVERED[module], options.marks)
    if not trial.passes:
        yield f"mutation.{module} left out: its tests fail unchanged"
        return
    yield f"# {module}: {len(trial.ran)} lines run, {'quick' if trial.quick else 'slow'} trials"
    found = list(mutants((ROOT / module).read_text("utf-8")))
    random.Random(f"{options.seed} {module}").shuffle(found)
    counts: Counter[str] = Counter()
    for mutant in sorted(found[: options.mutants], key=lambda m: m.line):
        if time.monotonic() > until:
            break
        fate = trial.fate(mutant.tree) if mutant.line in trial.ran else "not run"
        counts[fate] += 1
        if fate != "killed":
            yield _told(module, mutant, fate)
    tried = f"{counts['killed']} of {counts.total()}"
    yield f"mutation.{module}.killed {tried}, sampled from {len(found)} ({counts['not run']} not run)"


def _told(module: str, mutant: Mutant, fate: str) -> str:
    before, after = (text.splitlines()[0][:120] for text in (mutant.before, mutant.after))
    return f"{module}:{mutant.line}: {fate}: {before}  =>  {after}"


if __name__ == "__main__":
    main()
