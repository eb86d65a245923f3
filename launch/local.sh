#!/usr/bin/env bash
# Runs a program as N processes of one run on this machine.
# Usage: launch/local.sh N PROGRAM [FLAG ...], as
#   launch/local.sh 2 train --config=configs/demo_t2i.py --workdir=runs/t2i
# SIGTERM and Ctrl-C go to all of them; if one fails, the others are ended.
set -euo pipefail

if (($# < 2)) || ! [[ $1 =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: launch/local.sh N PROGRAM [FLAG ...], PROGRAM as train" >&2
  exit 2
fi
count=$1 program=$2
shift 2
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
if [[ ! -f $root/lumiere_jax/${program//.//}.py ]]; then
  echo "no program '$program': there is no lumiere_jax.$program" >&2
  exit 2
fi
python=$root/.venv/bin/python
[[ -x $python ]] || python=python3
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}

if ((count > 1)); then
  port=$("$python" -c 'import socket
with socket.socket() as s:
  s.bind(("127.0.0.1", 0))
  print(s.getsockname()[1])')
  export JAX_COORDINATOR_ADDRESS=127.0.0.1:$port JAX_NUM_PROCESSES=$count
fi

processes=()
end_all() {
  kill "-$1" "${processes[@]}" 2>/dev/null || true
}
trap 'end_all TERM' TERM
trap 'end_all INT' INT
trap 'end_all HUP' HUP
# With job control: else bash starts them deaf to SIGINT. In groups of their own
# they get the terminal's Ctrl-C once, from here.
set -m
for ((i = 0; i < count; i++)); do
  ((count > 1)) && export JAX_PROCESS_ID=$i
  "$python" -m "lumiere_jax.$program" "$@" </dev/null &
  processes+=($!)
done
set +m

# The first failure is told. `wait -n` would forget a process that ends between
# two calls of it; who is gone is asked for, and its status is still known.
status=0
left=("${processes[@]}")
while ((${#left[@]})); do
  remaining=()
  for process in "${left[@]}"; do
    if kill -0 "$process" 2>/dev/null; then
      remaining+=("$process")
      continue
    fi
    code=0
    wait "$process" || code=$?
    if ((code && !status)); then
      status=$code
      # Stopped together, they end together; else nobody waits for the rest.
      ((code == 143 || code == 130)) || end_all KILL
    fi
  done
  left=("${remaining[@]}")
  # Beside the shell, which passes a signal on at once.
  sleep 1 &
  wait "$!" || true
done
exit "$status"
