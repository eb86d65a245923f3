# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys
from pathlib import Path

from tests.running import launched

ROOT = Path(__file__).parents[2]
PROMPTS = ("a cat", "a dog that runs", "a bird", "five", "six fish swim")


def embed(count, prompts, out):
  """What `count` processes write, by file."""
  program = ["embed_text", "--config=configs/demo.py", f"--prompts={prompts}"]
  flags = [f"--out={out}", "--config.text.batch_size=2"]
  launch = [ROOT / "launch" / "local.sh", str(count)]
  with launched(
    [*launch, *program, *flags],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    # A checkout without an environment of its own takes this one's.
    env=os.environ
    | {
      "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    },
  ) as process:
    printed, errors = process.communicate(timeout=300)
  assert process.returncode == 0, errors[-2000:]
  assert printed.splitlines().count(f"6 captions: {out}") == 1
  return {p.name: p.read_bytes() for p in out.iterdir()}


def test_two_processes_write_what_one_does(tmp_path, minilm):
  del minilm  # Only whether it is there.
  prompts = tmp_path / "prompts.txt"
  prompts.write_text("\n".join(PROMPTS) + "\n")
  one = embed(1, prompts, tmp_path / "one")
  assert embed(2, prompts, tmp_path / "two") == one
