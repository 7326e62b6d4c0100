"""GRPO's stochastic step on a toy with exact velocity, and a tiny policy that learns from computed rewards.

    python -m benchmarks.grpo [--steps 16] [--shift 12] [--tau 0.45] [--critical 0 3] [--samples 400000]
    python -m benchmarks.grpo --by-step [--keep FOLDER]
    python -m benchmarks.grpo --agreement [--seeds 3] [--updates 12] [--keep FOLDER]
    python -m benchmarks.grpo --stability [--seeds 4] [--updates 24] [--keep FOLDER]
    python -m benchmarks.grpo --actors [--updates 10] [--keep FOLDER]
    python -m benchmarks.grpo --faults [--seeds 3] [--updates 20] [--keep FOLDER]
    python -m benchmarks.grpo --learn [--seeds 5] [--updates 90] [--keep FOLDER] [--sheet SHEET.png] [--plot CURVES.png]

The toy: data N(0.7, 0.5²) and its exact velocity, in float64. Prints per step level, noise, κ and the weights of the
policy's loss; the largest error of the gradients against autograd; the spread of samples of the ODE, of one stochastic
step at each of --critical, of one with the drift's sign as the report prints it, and of stochastic steps throughout;
and the network's calls of a group with and without sharing.

With --by-step: the norm of a tiny policy's gradient at each stochastic step, with the weightings `exact`, `report` and
`none`, of the same groups.

With --agreement: the cosine between the gradients of independent updates of a policy at its beginning, where one
prompt's scores are noise: by deviations of all groups and each group's own, and by weighting, of the same groups; and
the noisy prompt's part of the gradient. Seeds are of adapters and noises, on one base.

With --stability: two runs per seed that differ only in what the noisy prompt's scores happen to be, with deviations of
all groups and each group's own: how far their adapters, the videos of the same noises and the curves of rewards part.

With --actors: a tiny policy with its rewards as Ray actors. Prints which shares of an update's time rollouts, waiting
for scores and training take, and how much of the time with scores outstanding the slowest reward's process was idle;
the same where videos of three sizes are scored with nothing beside.

With --faults: the tiny policy of --learn with three rewards, one of them behind a service (a process on loopback) that
fails for every tenth request, does not answer two of a hundred and dies at every sixtieth; against the same run with
that reward in its own process. Prints what the service did and what the log has counted, which must agree, and how far
the rewards' last third differs. Runs without faults that --learn has left in FOLDER are taken.

With --learn: trains a DiT of 0.5 M parameters on moving squares with captions, then LoRAs on it by `reel train`'s own
loop with the objective `grpo`: with three rewards at once, with one of them alone, with other weightings at shift 12,
and with deviations of all groups or each group's own, where one prompt's scores are noise. Per seed and variant a row
goes to FOLDER/rows.jsonl at once; with --keep a run that was stopped goes on. Prints, per variant, the rise of each
reward from the first third of the updates to the last, and other figures, as means over seeds with 95 % intervals
(Student's t; one seed has none). Rewards are stand-ins: they show that the method learns what it is told, not that it
makes better videos. Rows of the sheet, from the same noises: before, three rewards, one reward.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.grpo.toy import print_toy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", default=16, type=int, help="of the sampler")
    parser.add_argument("--shift", default=12.0, type=float)
    parser.add_argument("--tau", default=0.45, type=float, help="largest size of the added noise")
    parser.add_argument("--critical", default=[0, 3], type=int, nargs="+", help="stochastic steps to try")
    parser.add_argument("--samples", default=400_000, type=int, help="of the toy")
    parser.add_argument("--learn", action="store_true", help="train tiny policies")
    parser.add_argument("--actors", action="store_true", help="where the time goes with rewards as Ray actors")
    parser.add_argument("--by-step", action="store_true", help="gradients by stochastic step and weighting")
    parser.add_argument("--agreement", action="store_true", help="gradients of independent updates against one another")
    parser.add_argument("--stability", action="store_true", help="runs that differ in one prompt's noise alone")
    parser.add_argument("--faults", action="store_true", help="train one with a reward service that fails")
    parser.add_argument("--variants", nargs="+", help="of the policies; default: all")
    parser.add_argument("--seeds", default=5, type=int, choices=[1, 2, 3, 4, 5])
    parser.add_argument("--updates", default=90, type=int, help="of a policy")
    parser.add_argument("--keep", type=Path, help="folder for runs and rows; default: a temporary one")
    parser.add_argument("--sheet", default=Path("grpo.png"), type=Path)
    parser.add_argument("--plot", type=Path, help="file for the learning curves")
    parser.add_argument("--threads", default=2, type=int, help="of torch; fewer on a busy machine")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if not (args.learn or args.faults or args.by_step or args.agreement or args.stability or args.actors):
        print_toy(args)
        return
    from benchmarks.grpo.actors import print_shares
    from benchmarks.grpo.agreement import print_agreement
    from benchmarks.grpo.by_step import print_gradients
    from benchmarks.grpo.faults import compare
    from benchmarks.grpo.learning import learn
    from benchmarks.grpo.stability import print_stability

    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        if args.by_step:
            print_gradients(folder, 0)
        elif args.agreement:
            print_agreement(folder, args.seeds, args.updates)
        elif args.stability:
            print_stability(folder, args.seeds, args.updates)
        else:
            (learn if args.learn else compare if args.faults else print_shares)(folder, args)


if __name__ == "__main__":
    main()
