# SPDX-License-Identifier: Apache-2.0
"""What steps take from earlier ones: which calls are made, and what is kept."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax.config import SamplerConfig, ScheduleConfig
from lumiere_jax.diffusion.guidance import guided
from lumiere_jax.diffusion.prediction import Prediction
from lumiere_jax.diffusion.reuse import Reused, reuses, reusing
from lumiere_jax.diffusion.sampler import Carry, make_step, sample_keys
from lumiere_jax.diffusion.schedule import make_schedule

X = jax.random.normal(jax.random.key(0), (2, 3, 4, 4, 3))
COND, EMPTY = jnp.array([1.0, 2.0]), jnp.array([0.25])
STEPS = 7
DEEP = jax.ShapeDtypeStruct((2, 5), jnp.float32)  # Of a sample.


def feature(x, t, text):
  """A deep feature that depends on the caption only."""
  return jnp.broadcast_to(text[:, None, None], (len(x), *DEEP.shape))


class Network:
  """x, timestep and text through a deep part; notes (batch, deep part runs)."""

  def __init__(self, cfg, feature=feature, learned=False):
    self.cfg, self.feature, self.learned = cfg, feature, learned
    self.calls = []

  def __call__(self, x, t, text, deep=None):
    assert t.shape == text.shape == x.shape[:1]
    self.calls.append((len(x), deep is None))
    if deep is None:
      deep = self.feature(x, t, text)
    said = deep.mean((1, 2))[:, None, None, None, None]
    out = x * (1 + t[:, None, None, None, None] / 1000) + said
    if self.learned:
      out = jnp.concatenate([out, 0 * x + said], -1)
    return out, deep if self.cfg.deep_every > 1 else None


def times(steps=STEPS):
  return [jnp.full(2, 900.0 - 100 * i) for i in range(steps)]


def run(cfg, interval=None, steps=STEPS, **options):
  """The outputs of all steps, and the calls of each, without compiling."""
  network = Network(cfg, **options)
  ask = reusing(network, COND, EMPTY, cfg, interval)
  left, outputs = Reused.start(X, cfg, DEEP), []
  with jax.disable_jit():  # Only branches that are taken are called.
    for i, t in enumerate(times(steps)):
      output, left = ask(X + i, t, left)
      outputs.append(output)
  assert int(left.made) == steps
  assert len(network.calls) == steps
  return outputs, network.calls


def calls(**fields):
  interval = fields.pop("interval", None)
  return run(SamplerConfig(guidance=4.0, **fields), interval)[1]


def test_guidance_is_computed_at_every_kth_step():
  assert [size for size, _ in calls(guidance_every=3)] == [4, 2, 2, 4, 2, 2, 4]
  # All of the network runs in each of them.
  assert all(whole for _, whole in calls(guidance_every=3))


def test_steps_outside_the_interval_are_not_counted():
  # Timesteps 900, 800, ... 300.
  sizes = [n for n, _ in calls(guidance_every=2, interval=(500.0, 800.0))]
  assert sizes == [2, 4, 2, 4, 2, 2, 2]


def test_deep_levels_run_at_every_kth_step():
  found = calls(deep_every=3)
  assert found == [(4, i % 3 == 0) for i in range(STEPS)]
  assert run(SamplerConfig(guidance=1.0, deep_every=2))[1] == [
    (2, i % 2 == 0) for i in range(STEPS)
  ]


@pytest.mark.parametrize(
  ("fields", "expected"),
  [
    (dict(guidance_every=2, deep_every=2), "D s D s D s D"),
    (dict(guidance_every=2, deep_every=4), "D s d s D s d"),
    (dict(guidance_every=4, deep_every=2), "D s S s D s S"),
    # The third step that is made whole is of the single batch: the next double
    # one is made whole too.
    (dict(guidance_every=2, deep_every=3), "D s d S D s D"),
    # Guidance begins after the first step, and ends before the last ones.
    (
      dict(guidance_every=2, deep_every=4, interval=(500.0, 800.0)),
      "S D s d S s s",
    ),
  ],
)
def test_both_together(fields, expected):
  """Double or single batch; capital letters are runs of the whole network."""
  letters = {(4, True): "D", (4, False): "d", (2, True): "S", (2, False): "s"}
  assert " ".join(letters[call] for call in calls(**fields)) == expected


@pytest.mark.parametrize("interval", [None, (0.0, 650.0), (450.0, 1000.0)])
@pytest.mark.parametrize("options", [{}, dict(learned=True)])
def test_what_does_not_change_is_reused_exactly(interval, options):
  """The difference, and the deep feature, are the same in every step here."""
  for scale, rescale in ((4.0, 0.0), (3.0, 0.5), (0.0, 0.0), (1.0, 0.0)):
    exact = guided(
      lambda *args: Network(SamplerConfig(), **options)(*args)[0],
      COND,
      EMPTY,
      scale,
      rescale,
      interval,
    )
    want = [exact(X + i, t) for i, t in enumerate(times())]
    for guidance_every, deep_every in itertools.product((1, 2, 3), repeat=2):
      cfg = SamplerConfig(
        guidance=scale,
        guidance_rescale=rescale,
        guidance_every=guidance_every,
        deep_every=deep_every,
      )
      if not reuses(cfg):
        assert Reused.start(X, cfg, None) is None
        continue
      found, _ = run(cfg, interval, **options)
      for a, b in zip(found, want, strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_the_difference_is_that_of_the_last_double_step():
  def changing(x, t, text):
    return feature(x, t, text * t)

  cfg = SamplerConfig(guidance=4.0, guidance_every=2)
  outputs, _ = run(cfg, feature=changing)
  plain, _ = run(SamplerConfig(guidance=1.0, deep_every=2), feature=changing)
  # Step 2 is double, step 3 takes its difference; without guidance step 2 is
  # whole too. cond - uncond = (text - 0.25) t.
  t2, t3 = (float(t[0]) for t in times()[2:4])
  positive = (X + 3) * (1 + t3 / 1000) + (COND * t3).reshape(2, 1, 1, 1, 1)
  difference = ((COND - EMPTY) * t2).reshape(2, 1, 1, 1, 1)
  np.testing.assert_allclose(outputs[3], positive + 3 * difference, rtol=1e-5)
  # Of the deep feature that of step 2.
  shallow = (X + 3) * (1 + t3 / 1000) + (COND * t2).reshape(2, 1, 1, 1, 1)
  np.testing.assert_allclose(plain[3], shallow, rtol=1e-5)


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m"])
def test_before_the_first_step_what_is_kept_tells_nothing(name):
  cfg = SamplerConfig(
    name=name, steps=4, guidance=4.0, guidance_every=3, deep_every=2
  )
  ask = reusing(Network(cfg), COND, EMPTY, cfg)

  def denoise(x, t, left):
    raw, left = ask(x, t, left)
    return Prediction(raw, x), left

  schedule = make_schedule(ScheduleConfig())
  keys = sample_keys(0, [0, 1])
  step = jax.jit(make_step(denoise, keys, schedule, cfg, "fixed_small"))
  start = Carry.start(X, cfg, Reused.start(X, cfg, DEEP))
  assert not start.begun
  reused = start.reused._replace(
    made=jnp.int32(1),
    led=jnp.int32(1),
    difference=jnp.full_like(X, jnp.nan),
    deep=jnp.full_like(start.reused.deep, jnp.nan),
    paired=jnp.asarray(True),
  )
  first, again = step(2, start), step(2, start._replace(reused=reused))
  jax.tree.map(np.testing.assert_array_equal, first, again)
  assert int(first.reused.made) == int(first.reused.led) == 1
  # What was kept is used later, and it is no program of its own.
  second = step(3, first)
  assert np.isfinite(second.x).all() and int(second.reused.made) == 2
  assert step._cache_size() == 1


def test_only_what_is_reused_is_kept():
  def kept(**fields):
    left = Reused.start(X, SamplerConfig(**fields), DEEP)
    return (
      left.difference is not None,
      left.deep is not None and left.deep.shape,
    )

  assert kept(guidance=2.0, guidance_every=2) == (True, False)
  assert kept(guidance=2.0, deep_every=2) == (False, (2, 2, 2, 5))
  assert kept(guidance=1.0, deep_every=2, guidance_every=2) == (
    False,
    (2, 1, 2, 5),
  )
  assert not reuses(SamplerConfig(guidance=1.0, guidance_every=2))
  assert not reuses(SamplerConfig(guidance=4.0))
