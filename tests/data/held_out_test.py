# SPDX-License-Identifier: Apache-2.0
"""The evaluators of a run on real data: held-out loss, and samples."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax import (
  build,
  embed_text,
  evaluators,
  feed,
  media,
  sharding,
  train,
)
from lumiere_jax.config import (
  DataConfig,
  DiffusionConfig,
  MeshConfig,
  SourceConfig,
  from_dict,
  to_dict,
)
from lumiere_jax.data import loader
from lumiere_jax.errors import UserError
from lumiere_jax.evaluation.plain import plain_measures
from lumiere_jax.weights import folder
from tests.data import clip_folder
from tests.models.nets import randomised
from tests.models.toy import CONFIG
from tests.text.hash_encoder import HashTextEncoder

CLOCK = ("wall_time", "clips_per_second", "data_wait_share", "seconds")
ENCODER = HashTextEncoder(width=8)


def recipe(data, **train):
  cfg = dataclasses.replace(from_dict(CONFIG), data=data)
  fields = dict(batch_size=2, eval_every=2, eval_clips=3) | train
  return dataclasses.replace(
    cfg, train=dataclasses.replace(cfg.train, **fields)
  )


def measured(cfg, params, mesh=None):
  mesh = mesh or sharding.make_mesh(devices=jax.devices()[:1])
  held_out = evaluators.HeldOutLoss.of(cfg, ENCODER, mesh)
  return dict(held_out(params, 7))


@pytest.fixture(scope="module")
def params():
  return randomised(from_dict(CONFIG).model)


@pytest.mark.parametrize(
  ("source", "split"),
  [
    (dict(), "held_out"),
    (dict(split="held_out"), None),
    (dict(name="ucf101"), "test"),
    (dict(kind="ucf101"), "test"),
    (dict(kind="ucf101", split="train2"), "test2"),
    (dict(kind="ucf101", split="all"), None),
    (dict(kind="shards"), None),
    (dict(kind="folder"), None),
  ],
)
def test_what_data_hold_back(source, split):
  found = loader.held_out(DataConfig(**source))
  assert (found and found.split) == split
  mixed = SourceConfig(**source), SourceConfig(kind="folder", split="train")
  found = loader.held_out(DataConfig(sources=mixed))
  assert [p.split for p in found.sources] == [split] if split else found is None


def test_clips_in_focus_are_not_looked_for_in_what_is_held_back(tiny):
  data = dataclasses.replace(tiny, focus=("spins",))
  assert loader.held_out(data).focus == ()


def test_the_loss_is_that_of_the_first_clips_each_with_its_own_noise(
  tiny, params
):
  cfg = recipe(tiny)
  found = measured(cfg, params)
  batches, total = feed.held_out_batches(cfg, ENCODER, 3, [0, 1, 2])
  assert total == len(list(loader.read_clips(tiny, "held_out")))
  batch = batches.read(0)
  held_out = [c.video.tobytes() for c in loader.read_clips(tiny, "held_out")]
  assert len({clip.tobytes() for clip in batch["pixels"]}) == 3
  assert all(clip.tobytes() in held_out for clip in batch["pixels"])

  no_drop = dataclasses.replace(cfg.train, caption_dropout=0.0)
  loss = build.loss_fn(dataclasses.replace(cfg, train=no_drop), ENCODER.empty)
  key = jax.random.key(evaluators._KEY)
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(3))
  losses, aux = jax.device_get(jax.jit(loss)(params, batch, keys))
  quarter = aux["t"] * 4 // 1000
  expected = {}
  for name, values in (("loss", losses), ("x0_mse", aux["x0_mse"])):
    expected[f"held_out/{name}"] = values.mean()
    for q in set(quarter.tolist()):
      by_quarter = values[quarter == q].mean()
      expected[f"held_out/{name}_by_t/{int(q)}"] = by_quarter
  assert found == pytest.approx(expected, rel=1e-5)


def test_error_of_x0_compares_recipes_whatever_they_predict_and_weigh(
  tiny, params
):
  """Of one network, which outputs the same, on the same noisy clips."""
  cfg = recipe(tiny)
  want = measured(cfg, params)
  other = DiffusionConfig(
    weighting="v",
    weighting_cap=2.0,
    timestep_distribution="logit_normal",
    timestep_mean=2.0,
    timestep_shift=5.0,
  )
  found = measured(dataclasses.replace(cfg, diffusion=other), params)
  same = [name for name in want if "x0_mse" in name]
  assert len(same) > 2
  assert {n: found[n] for n in same} == {n: want[n] for n in same}
  assert found["held_out/loss"] != want["held_out/loss"]


def test_no_seed_batch_or_dropout_of_a_run_changes_what_is_measured(
  tiny, params
):
  cfg = recipe(tiny)
  want = measured(cfg, params)
  other = recipe(tiny, seed=5, caption_dropout=0.9, batch_size=6, accumulate=2)
  model = dataclasses.replace(cfg.model, dropout=0.5)
  found = measured(dataclasses.replace(other, model=model), params)
  assert found.keys() == want.keys()
  for name, value in want.items():
    assert found[name] == pytest.approx(value, rel=1e-5)
  assert measured(cfg, params) == want


def test_no_more_clips_than_there_are(tiny, params):
  cfg = recipe(tiny, eval_clips=10**6)
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  held_out = evaluators.HeldOutLoss.of(cfg, ENCODER, mesh)
  assert held_out.count == len(list(loader.read_clips(tiny, "held_out")))


@pytest.mark.full
@pytest.mark.devices(2)
def test_several_devices_measure_the_same(tiny, params):
  cfg = recipe(tiny, batch_size=2)
  want = measured(cfg, params)
  for axis in ("data", "fsdp"):
    mesh = sharding.make_mesh(MeshConfig(**{axis: 2}))
    placed = sharding.place_tree(params, sharding.shard_tree(params, mesh))
    found = measured(cfg, placed, mesh)
    assert found.keys() == want.keys()
    for name, value in want.items():
      assert found[name] == pytest.approx(value, rel=1e-5)


def test_who_cannot_read_takes_part_and_spoils_what_the_others_see(
  tiny, params, monkeypatch
):
  cfg = recipe(tiny)
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  held_out = evaluators.HeldOutLoss.of(cfg, ENCODER, mesh)
  read, seen = held_out.batches.read, []

  def fail(position):
    if not position:
      raise UserError("too many are broken")
    return read(position)

  def noted(*args):
    losses, errors, _ = held_out.losses(*args)
    seen.append(losses + errors)
    return losses, errors, jnp.zeros(2)

  monkeypatch.setattr(held_out.batches, "read", fail)
  with pytest.raises(UserError, match="too many are broken"):
    dict(dataclasses.replace(held_out, losses=noted)(params, 2))
  assert np.isnan(seen[0]).all() and np.isfinite(seen[1]).all()


def test_samples_are_measured_and_written(tiny, params, tmp_path):
  cfg = recipe(tiny, sample_prompts=("a frog", "a cat"), eval_every=0)
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  samples = evaluators.Samples.of(cfg, ENCODER, tmp_path, mesh)
  found = dict(samples(params, 3))
  made = tmp_path / "samples"
  names = ["step_0000003.png", "step_0000003_0.webp", "step_0000003_1.webp"]
  assert sorted(path.name for path in made.iterdir()) == names
  clips = [media.read_video(made / n, size=(16, 16))[0] for n in names[1:]]
  each = [plain_measures(np.asarray(clip), 16) for clip in clips]
  assert found == {
    f"samples/{name}": pytest.approx((each[0][name] + each[1][name]) / 2)
    for name in each[0]
  }
  assert dict(samples(params, 3)) == found  # Over what lies there.


def test_clips_too_small_to_measure_are_written(params, tmp_path):
  small = DataConfig(num_frames=4, size_px=8)
  cfg = recipe(small, sample_prompts=("a frog",), eval_every=0)
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  samples = evaluators.Samples.of(cfg, ENCODER, tmp_path, mesh)
  assert dict(samples(params, 3)) == {}
  assert (tmp_path / "samples" / "step_0000003_0.webp").is_file()


def test_a_folder_holds_nothing_back_which_is_said_once(tmp_path):
  clips = clip_folder.make(tmp_path / "clips", broken=False)
  data = DataConfig(kind="folder", data_dir=str(clips), num_frames=8)
  told = []
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  made = evaluators.make(recipe(data), ENCODER, tmp_path, mesh, told.append)
  assert made == []
  (line,) = told
  assert "eval_every=2" in line and "hold no clips back" in line


def test_their_captions_are_encoded_into_a_store_where_they_are_asked_for(
  tiny,
):
  asked, not_asked = (
    embed_text._captions(recipe(tiny, eval_every=every)) for every in (2, 0)
  )
  assert not_asked == loader.captions(tiny)
  held_out = {clip.caption for clip in loader.read_clips(tiny, "held_out")}
  assert held_out <= set(asked) and not held_out & set(not_asked)


def rows(workdir, name):
  """A field of each line that has it, by step."""
  text = (workdir / "metrics.jsonl").read_text().splitlines()
  lines = [json.loads(line) for line in text]
  return {r["step"]: r[name] for r in lines if name in r}


@pytest.mark.full
@pytest.mark.usefixtures("hashed_text")
def test_a_run_that_measures_is_the_one_that_does_not(tiny, params, tmp_path):
  # From random weights the output would stay zero: its layer is frozen.
  start = tmp_path / "start"
  folder.save(start, params, to_dict(recipe(tiny)), "licence", dtype="float32")
  fields = dict(
    init_from=str(start),
    steps=4,
    log_every=1,
    checkpoint_every=2,
    warmup_steps=1,
    ema_decay=0.5,
  )
  also = dict(sample_every=4, sample_prompts=("a frog spinning",))
  cfg = recipe(tiny, **fields, **also)
  for name, one in (
    ("with", cfg),
    ("without", recipe(tiny, **fields, eval_every=0)),
  ):
    (tmp_path / name).mkdir()
    train.fit(one, tmp_path / name)
  # As if it had been killed after the second step.
  shutil.copytree(tmp_path / "with", tmp_path / "parts")
  shutil.rmtree(tmp_path / "parts" / "checkpoints" / "4")
  shutil.rmtree(tmp_path / "parts" / "weights")
  train.fit(cfg, tmp_path / "parts")

  runs = [tmp_path / name for name in ("with", "without", "parts")]
  for field in ("loss", "grad_norm", "param_norm", "loss_by_t"):
    first, *others = (rows(run, field) for run in runs)
    assert list(first) == [1, 2, 3, 4] and others == [first, first]
  weights = [folder.load(run / "weights")[2].fingerprint for run in runs]
  assert weights[0] == weights[1] == weights[2]
  whole, none, again = (rows(run, "eval") for run in runs)
  assert whole == again and none == {}
  assert list(whole) == [2, 4]
  assert "samples/pixel_flicker" in whole[4].keys() - whole[2].keys()
  assert whole[2]["held_out/loss"] != whole[4]["held_out/loss"]
