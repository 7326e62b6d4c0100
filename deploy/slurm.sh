#!/usr/bin/env bash
# A curation on Slurm: sbatch deploy/slurm.sh s3://BUCKET/footage s3://BUCKET/store --recipe recipe.yaml
# What follows the store goes to `reel curate` as it is; a recipe lies where the first node sees it.
# The environment of the submitting shell goes along: keys of the object store, and a Python environment with reelwright.
#SBATCH --job-name=curate
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
set -euo pipefail
inputs=$1
store=$2
shift 2

export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')}
export RAY_AUTH_TOKEN  # srun hands it to the nodes of this job alone
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK  # without it srun gives a node one CPU, since Slurm 22.05
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes=1 --ntasks=1 --nodelist="$first" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 20000))

srun --nodes=1 --ntasks=1 --nodelist="$first" \
  ray start --head --node-ip-address="$address" --port="$port" --num-cpus="$SLURM_CPUS_PER_TASK" \
  --disable-usage-stats --block &
sleep 20
if ((SLURM_JOB_NUM_NODES > 1)); then
  srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --exclude="$first" \
    ray start --address="$address:$port" --num-cpus="$SLURM_CPUS_PER_TASK" --disable-usage-stats --block &
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
[[ -z $again ]] || scontrol requeue "$SLURM_JOB_ID"
exit "$status"
