#!/usr/bin/env bash
# Trains the demo on this machine: the text-to-image U-Net on stills, then the
# temporal part on clips. Usage: launch/local.sh WORKDIR [FLAGS OF BOTH STAGES]
set -euo pipefail

if (($# == 0)); then
  echo "usage: launch/local.sh WORKDIR [--config.train.FIELD=VALUE ...]" >&2
  exit 2
fi
workdir=$(realpath --canonicalize-missing -- "$1")
shift
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

python=.venv/bin/python
[[ -x $python ]] || python=python3

"$python" -m lumiere_jax.train --config=configs/demo_t2i.py \
  --workdir="$workdir/t2i" "$@"
"$python" -m lumiere_jax.train --config=configs/demo_t2v.py \
  --workdir="$workdir/t2v" \
  --init_from="$workdir/t2i/weights" "$@"
