# SPDX-License-Identifier: Apache-2.0
"""The rules of the suite itself: devices, skips, checked signatures."""

from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import pytest

from lumiere_jax.nn import resnet


@pytest.fixture
def conftest(request):
  path = Path(__file__).with_name("conftest.py")
  return request.config.pluginmanager.get_plugin(str(path))


def _report(outcome: str, reason: str) -> pytest.TestReport:
  return pytest.TestReport(
    nodeid="x_test.py::test_x",
    location=("x_test.py", 1, "test_x"),
    keywords={},
    outcome=outcome,
    longrepr=("x_test.py", 1, reason),
    when="call",
  )


@pytest.mark.parametrize(
  ("ci", "outcome", "reason", "expected"),
  [
    (True, "skipped", "could not import 'torch'", "failed"),
    (True, "skipped", "needs an accelerator", "skipped"),
    (True, "skipped", "no browser is installed", "skipped"),
    (True, "skipped", "libtpu is not installed", "skipped"),
    (True, "passed", "", "passed"),
    (False, "skipped", "could not import 'torch'", "skipped"),
  ],
)
def test_only_what_pip_cannot_install_excuses_a_skip_in_ci(
  conftest, monkeypatch, ci, outcome, reason, expected
):
  monkeypatch.delenv("CI", raising=False)
  if ci:
    monkeypatch.setenv("CI", "true")
  report = conftest.refuse_skip(_report(outcome, reason))
  assert report.outcome == expected
  if expected == "failed":
    assert reason in str(report.longrepr)


@pytest.mark.devices(8)
def test_marked_test_sees_its_devices():
  assert jax.device_count() == 8


def test_other_tests_see_one_device():
  assert (jax.default_backend(), jax.device_count()) == ("cpu", 1)


def test_shapes_of_signatures_are_checked():
  assert resnet.downsample(jnp.ones((1, 4, 4, 1))).shape == (1, 2, 2, 1)
  with pytest.raises(jaxtyping.TypeCheckError):
    resnet.downsample(jnp.ones((4, 4)))
