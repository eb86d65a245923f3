#!/usr/bin/env bash
# Runs a program on all workers of a Cloud TPU VM (a pod slice), again after a
# preemption. Usage: launch/tpu_vm.sh PROGRAM [FLAG ...] with, in the
# environment:
#   TPU_NAME ZONE   of the slice
#   TPU_TYPE        as v5litepod-256, and
#   TPU_VERSION     as v2-alpha-tpuv5-lite: with both it is made anew when gone
#   REPOSITORY      where workers clone the code from; its .venv is made once
#   PROJECT         optional
# WORKDIR and data must lie where all workers see them (a mounted bucket or
# Filestore).
set -euo pipefail

: "${TPU_NAME:?must name the TPU VM}" "${ZONE:?must name its zone}"
: "${REPOSITORY:?must be what git clone takes}"
if (($# == 0)); then
  echo "usage: launch/tpu_vm.sh PROGRAM [FLAG ...]" >&2
  exit 2
fi
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
if [[ ! -f $root/lumiere_jax/${1//.//}.py ]]; then
  echo "no program '$1': there is no lumiere_jax.$1" >&2
  exit 2
fi
where=(--zone="$ZONE" ${PROJECT:+--project="$PROJECT"})
vm() {
  gcloud compute tpus tpu-vm "$@" "${where[@]}"
}
state() {
  vm describe "$TPU_NAME" --format='value(state)' 2>/dev/null || echo GONE
}

make_again() {
  [[ -n ${TPU_TYPE:-} && -n ${TPU_VERSION:-} ]] || {
    echo "$TPU_NAME is $1; TPU_TYPE and TPU_VERSION would make it anew" >&2
    exit 1
  }
  [[ $1 == GONE ]] || vm delete "$TPU_NAME" --quiet
  until vm create "$TPU_NAME" --accelerator-type="$TPU_TYPE" \
    --version="$TPU_VERSION" ${SPOT:+--spot}; do
    sleep "${RETRY_SECONDS:-60}"
  done
}

program=$1
shift
printf -v flags ' %q' "$@"
printf -v repository '%q' "$REPOSITORY"
setup="test -x lumiere_jax/.venv/bin/python || {
  git clone $repository lumiere_jax && cd lumiere_jax &&
  python3 -m venv .venv && .venv/bin/pip install -q -e '.[tpu]' &&
  .venv/bin/pip install -q --no-deps --require-hashes -r requirements/text.txt
}"
run="cd lumiere_jax && LUMIERE_CLUSTER=auto \
.venv/bin/python -m lumiere_jax.$program$flags; s=\$?
echo \"lumiere_jax ended with status \$s\"; exit \$s"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
while true; do
  now=$(state)
  [[ $now == READY ]] || make_again "$now"
  if vm ssh "$TPU_NAME" --worker=all --command="$setup" &&
    vm ssh "$TPU_NAME" --worker=all --command="$run" | tee "$log"; then
    exit 0
  fi
  # A mistake, or training that diverged: the same again would fail again.
  for status in 2 3; do
    grep -q "^lumiere_jax ended with status $status\$" "$log" && exit "$status"
  done
  echo "the run ended, the slice is $(state): again" >&2
  sleep "${RETRY_SECONDS:-60}"
done
