#!/usr/bin/env bash
# A curation on Slurm: sbatch deploy/slurm.sh s3://BUCKET/footage s3://BUCKET/store --recipe recipe.yaml
# What follows the store goes to `reel curate` as it is; a recipe lies where the first node sees it.
# The environment of the submitting shell goes along: keys of the object store, and a Python environment with reelwright.
# To stop it: scancel --batch --signal=TERM JOB
#SBATCH --job-name=curate
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --mem-per-cpu=3G
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --no-kill
set -euo pipefail
inputs=$1
store=$2
shift 2

export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')}
export RAY_AUTH_TOKEN  # srun hands it to the nodes of this job alone
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0  # no work is left when Ray is ended here
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK  # without it srun gives a node one CPU, since Slurm 22.05
# Of this job alone, on a local disk of each node. Short, since sockets lie there; in a folder of several users the first one's files stay.
export TMPDIR=/tmp/reel-$SLURM_JOB_ID
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# The first address that is not loopback, as which some systems know their own name.
address=$({ hostname --ip-address; hostname --all-ip-addresses; } | tr ' ' '\n' | awk '/^[0-9.]+$/ && !/^127\./ && !found++')
port=$((20000 + SLURM_JOB_ID % 6000 * 2))  # and the next: jobs may share a node

# What a node does: start Ray, again where it was too slow for Ray's own limits, and take its files away. Slurm may tell bash alone of TERM.
# shellcheck disable=SC2016  # variables of the node
on_node='
  trap "rm -rf \"$TMPDIR\"" EXIT
  trap "ended=yes; kill \$ray" TERM
  for _ in 1 2 3; do
    rm -rf "$TMPDIR"; mkdir -p "$TMPDIR"
    "$@" & ray=$!
    while kill -0 "$ray" 2>/dev/null; do wait "$ray"; done
    [[ -z ${ended-} ]] || break
  done'

# start_ray NODES SRUN_OPTION -- COMMAND
start_ray() {
  srun --nodes="$1" --ntasks="$1" --no-kill --wait=0 --kill-on-bad-exit=0 "$2" bash -c "$on_node" "${@:3}" \
    --num-cpus="$SLURM_CPUS_PER_TASK" --dashboard-agent-listen-port=0 --disable-usage-stats --block &
}

rm -rf "$TMPDIR"  # of an earlier try of this job that lost its node
start_ray 1 --nodelist="$first" -- \
  ray start --head --node-ip-address="$address" --port="$port" --ray-client-server-port=$((port + 1)) --include-dashboard=false
head=$!
until [[ -e $TMPDIR/ray/ray_current_cluster ]]; do  # Ray writes it when its head is there
  kill -0 "$head" || exit 1
  sleep 1
done
if ((SLURM_JOB_NUM_NODES > 1)); then
  start_ray $((SLURM_JOB_NUM_NODES - 1)) --exclude="$first" -- ray start --address="$address:$port"
fi

# Five minutes before the time is over Slurm sends USR1 here: `reel` commits and ends, and this job is queued again to go on. The driver is
# no step of srun, which would kill it on TERM; this script runs on the first node anyway.
reel curate "$inputs" --store "$store" --address "$address:$port" "$@" &
driver=$!
again=
trap 'again=yes; kill -TERM "$driver"' USR1
trap 'kill -TERM "$driver"' TERM
status=0
while kill -0 "$driver" 2>/dev/null; do  # a signal ends `wait` before the driver has ended
  wait "$driver" && status=0 || status=$?
done
scancel --signal=TERM "$SLURM_JOB_ID" || true  # the steps, not this script; srun, if ended, would kill them before they tidied up
wait || true
[[ -z $again ]] || scontrol requeue "$SLURM_JOB_ID"
exit "$status"
