# SPDX-License-Identifier: Apache-2.0
"""The zero-shot program with small networks; a script, to be killed by tests.

python zero_shot_run.py [arguments of lumiere_jax.zero_shot]
"""

import os
import time

import jax
import jax.numpy as jnp
import numpy as np

from lumiere_jax import cli, encoders, extractors, feature_store, zero_shot
from lumiere_jax.config import from_dict, to_dict
from lumiere_jax.weights import folder
from tests.models import nets
from tests.models.toy import CONFIG
from tests.text.hash_encoder import HashTextEncoder

FRAMES = 4
WIDTH = 6
BASE = {
  **CONFIG,
  "data": {"num_frames": 8, "size_px": 8, "fps": 16},
  "sampler": {"name": "ddim", "steps": 2, "guidance": 2.0},
}


def _means(params, config, x):
  both = (x, jnp.square(jnp.diff(x, axis=1)))
  means = [v.mean(axis=(1, 2, 3)) for v in both]
  return jnp.concatenate(means, axis=1) @ params["kernel"]


def _kind(title, width, **fields):
  return extractors.Kind(
    title=title,
    resize="not at all",
    frames=2,
    params=lambda config: {
      "kernel": jax.ShapeDtypeStruct((WIDTH, width(config)), jnp.float32)
    },
    pixels=lambda config, clip: clip / 127.5 - 1,
    network=_means,
    **fields,
  )


# In place of networks that are too large for tests.
KINDS = {
  "i3d": _kind("", lambda config: WIDTH),
  "c3d": _kind("C3D", lambda config: config["classes"]),
  "small": _kind("Small", lambda config: WIDTH),
}


def text_encoder(cfg):
  return HashTextEncoder(
    max_tokens=cfg.text.max_tokens, width=cfg.model.encoder_hid_dim
  )


def write_network(path, kind, seed=0, **fields):
  """A weights folder of a feature network; fields of its config.json."""
  params = KINDS[kind].params(fields)
  rng = np.random.default_rng(seed)
  params = {
    "kernel": rng.normal(size=params["kernel"].shape).astype(np.float32) * 4
  }
  folder.save(path, params, {"features": {"kind": kind, **fields}}, "l")


def write_model(path, seed=1):
  cfg = from_dict(BASE)
  params = nets.randomised(cfg.model, seed)
  folder.save(path, params, to_dict(cfg), "l")


def patch(setattr=setattr):
  """Puts small networks in place; `setattr` may be one that takes it back."""
  setattr(extractors, "KINDS", {**extractors.KINDS, **KINDS})
  setattr(encoders, "text_encoder", text_encoder)
  setattr(cli, "enable_compilation_cache", lambda: None)


def slowed(pace):
  """Every clip takes so many seconds longer."""
  put = feature_store.FeatureStore.put

  def slow(self, *args):
    put(self, *args)
    time.sleep(pace)

  feature_store.FeatureStore.put = slow


if __name__ == "__main__":
  patch()
  slowed(float(os.environ.get("PACE", "0")))
  cli.run(zero_shot.main)
