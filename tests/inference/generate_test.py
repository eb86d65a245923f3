# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax.config import DiffusionConfig, SamplerConfig
from lumiere_jax.diffusion.sampler import sample_keys
from lumiere_jax.inference.generate import Generator, Text, batches

SHAPE = (4, 2, 2, 3)
PARAMS = {"scale": jnp.float32(0.5)}


def text(*values):
  features = np.asarray(values, np.float16)[:, None, None]
  return Text(features, np.ones(features.shape[:2], bool))


NEGATIVE = text(0.0)


def network(calls):
  """A network of closed form that notes the batch of each traced call."""

  def apply(params, x, t, text, mask):
    calls.append(len(x))
    pooled = (text[..., 0] * mask).sum(-1) / mask.sum(-1)
    level = (pooled + t / 1000) / 10
    return params["scale"] * x + level[:, None, None, None, None]

  return apply


def generator(calls=None, **fields):
  # A threshold would hide whatever goes beyond it.
  plain = {"name": "ddpm", "steps": 5, "guidance": 3.0, "threshold": "none"}
  return Generator(
    network([] if calls is None else calls),
    SHAPE,
    DiffusionConfig(prediction="v"),
    SamplerConfig(**(plain | fields)),
  )


def test_a_call_a_step_is_the_whole_loop_and_tells_of_every_step():
  make, keys = generator(), sample_keys(7, [0, 1])
  told = []
  stepped = make(PARAMS, text(1.0, 2.0), NEGATIVE, keys, lambda: told.append(0))
  whole = make(PARAMS, text(1.0, 2.0), NEGATIVE, keys)
  np.testing.assert_array_equal(stepped, whole)
  assert len(told) == make.num_steps == 5
  assert whole.shape == (2, *SHAPE) and whole.dtype == jnp.float32


def test_a_sample_is_what_it_is_alone_whatever_is_made_beside_it():
  make = generator()
  both = make(PARAMS, text(1.0, 2.0), NEGATIVE, sample_keys(7, [0, 5]))
  alone = make(PARAMS, text(2.0), NEGATIVE, sample_keys(7, [5]))
  np.testing.assert_allclose(both[1], alone[0], rtol=1e-5, atol=1e-6)
  other = make(PARAMS, text(2.0), NEGATIVE, sample_keys(8, [5]))
  assert np.abs(other - alone).max() > 0.01


def test_guidance_is_one_doubled_call_and_none_without_it():
  for guidance, size in ((3.0, 4), (1.0, 2)):
    calls = []
    make = generator(calls, guidance=guidance)
    make.compile(PARAMS, text(1.0, 2.0), NEGATIVE)
    assert set(calls) == {size}


def test_guidance_leads_away_from_the_negative_prompt():
  def mean(negative, guidance):
    make = generator(guidance=guidance)
    return float(make(PARAMS, text(1.0), negative, sample_keys(0, [0])).mean())

  plain = mean(NEGATIVE, 1.0)
  assert mean(text(1.0), 3.0) == pytest.approx(plain, rel=1e-4)
  below, above = mean(text(0.5), 3.0) - plain, mean(text(1.5), 3.0) - plain
  assert below * above < 0 and abs(below) > 0.01


def test_compiling_first_leaves_nothing_to_compile():
  calls = []
  make = generator(calls)
  make.compile(PARAMS, text(1.0), NEGATIVE)
  traced = len(calls)
  assert traced > 0
  make(PARAMS, text(2.0), NEGATIVE, sample_keys(0, [0]), lambda: None)
  make(PARAMS, text(2.0), NEGATIVE, sample_keys(1, [0]))
  assert len(calls) == traced


def test_the_program_that_is_lowered_is_the_one_that_runs():
  make, keys = generator(), sample_keys(0, [0])
  inputs = (
    x._replace(features=np.float32(x.features)) for x in (text(1.0), NEGATIVE)
  )
  lowered = make.lower(PARAMS, *inputs).as_text()
  advance, run = make._advance, []

  def noting(*args):
    run.append(advance.lower(*args).as_text())
    return advance(*args)

  make._advance = noting
  make.compile(PARAMS, text(1.0), NEGATIVE)
  make(PARAMS, text(1.0), NEGATIVE, keys)
  make(PARAMS, text(1.0), NEGATIVE, keys, lambda: None)
  assert set(run) == {lowered}


def test_the_last_batch_is_filled():
  assert batches([1, 2, 3], 2) == [[1, 2], [3, 3]]
  assert batches([1, 2], 2) == [[1, 2]]
  assert batches([1], 3) == [[1, 1, 1]]
