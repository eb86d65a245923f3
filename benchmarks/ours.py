# SPDX-License-Identifier: Apache-2.0
"""One turn of our side: the network and its training step."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from benchmarks.comparison import Size


def config(size: Size, work: str, *, resample: bool = True) -> Any:
  """The recipe of a network of this size.

  Args:
    size: of the network and its clip.
    work: one of `comparison.WORKS`.
    resample: whether levels have fewer frames, as a STUNet's do.
  """
  from lumiere_jax.config import from_dict

  first, levels = size.channels[0], len(size.channels)
  return from_dict(
    {
      "model": {
        "block_out_channels": size.channels,
        "layers_per_block": 1,
        "attention": (False, *[True] * (levels - 1)),
        "attention_head_dim": first,
        "cross_attention_dim": size.text_width,
        "encoder_hid_dim": size.text_width,
        "norm_num_groups": size.groups,
        "act_fn": "silu",
        "temporal": {"attention_head_dim": first, "resample": resample},
      },
      "data": {"size_px": size.pixels, "num_frames": size.frames},
      "text": {"max_tokens": size.tokens},
      "train": {
        "stage": "video",
        "batch_size": 1,
        # Left out, those that inflation adds train.
        "trainable": "." if work == "train" else "",
      },
    }
  )


def count(size: Size, work: str, *, resample: bool = True) -> tuple[Any, float]:
  """The network's account and the operations of one piece of work.

  They are counted by hand, those of padding included, as PyTorch's counter
  does; of a step without its update.

  Raises:
    UserError: a size that the network cannot have.
  """
  from lumiere_jax import build, trees
  from lumiere_jax.profiling.network import Call, count_network
  from lumiere_jax.profiling.work import forward_flops, train_flops

  cfg = config(size, work, resample=resample)
  trained = {}
  if work != "forward":
    abstract = build.abstract_params(cfg.model)
    trained = trees.flatten(build.trainable(cfg, abstract)[0])
  account = count_network(
    cfg.model,
    Call(
      batch=1,
      frames=size.frames,
      height=size.pixels,
      width=size.pixels,
      tokens=size.tokens,
    ),
    trained.__contains__,
  )
  if work == "forward":
    return account, forward_flops(account.layers)
  return account, train_flops(account).multiplied


def turn(
  name: str, size: Size, work: str, repeats: int, *, resample: bool = True
) -> dict[str, Any]:
  """Compiles, runs and times one piece of work.

  Args:
    name: of the side.
    size: of the network and its clip.
    work: one of `comparison.WORKS`.
    repeats: timed runs, after one that is not.
    resample: as in `config`.

  Returns:
    What `comparison.summed_up` takes.
  """
  import jax

  from lumiere_jax import build, cli, trees
  from lumiere_jax.benchmarking.clock import measure
  from lumiere_jax.profiling.memory import program_memory

  cli.keep_freed_memory()
  cli.enable_compilation_cache()
  cfg = config(size, work, resample=resample)
  account, flops = count(size, work, resample=resample)
  if work == "forward":
    compiled, run = _forward(cfg, size)
  else:
    compiled, run = _step(cfg)
  memory = program_memory(compiled, jax.default_backend())
  told = {
    "name": name,
    "framework": "jax",
    "platform": jax.default_backend(),
    "parameters": trees.count(build.abstract_params(cfg.model)),
    "trained": account.trained,
    "flops": flops,
    "program_bytes": asdict(memory),
  }
  if too_large(memory.peak):
    return {**told, "failed": "needs more memory than there is; not run"}
  return {**told, "times": measure(run, repeats).as_dict()}


def too_large(peak: int | None) -> bool:
  """Whether a program of the CPU had better not be run on this machine.

  Beside it stand the state's copy and what the compiler holds.
  """
  import os

  import jax

  free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
  return jax.default_backend() == "cpu" and bool(peak) and peak > 0.8 * free


def _forward(cfg: Any, size: Size) -> tuple[Any, Callable[[], Any]]:
  """The compiled network, and one call of it on a random clip."""
  import jax
  import jax.numpy as jnp

  from lumiere_jax import build
  from lumiere_jax.compiling import compiler_options
  from lumiere_jax.models.sharded import make_apply

  keys = jax.random.split(jax.random.key(0), 3)
  params = _random(build.init_params(cfg.model, 0), keys[0])
  clip = (1, size.frames, size.pixels, size.pixels, 3)
  inputs = (
    jax.random.normal(keys[1], clip),
    jnp.full((1,), 500.0),
    jax.random.normal(keys[2], (1, size.tokens, size.text_width)),
    jnp.ones((1, size.tokens), bool),
  )
  network = jax.jit(make_apply(cfg.model), compiler_options=compiler_options())
  compiled = network.lower(params, *inputs).compile()
  return compiled, lambda: compiled(params, *inputs)


def _random(params: Any, key: Any) -> Any:
  """Parameters without the zeros that inflation begins with."""
  import jax

  return jax.jit(
    lambda tree: jax.tree.map(
      lambda x: x + 0.02 * jax.random.normal(key, x.shape, x.dtype), tree
    )
  )(params)


def _step(cfg: Any) -> tuple[Any, Callable[[], Any]]:
  """The compiled training step, and one step on a random clip.

  It is the library's own: besides loss, gradients and AdamW it draws noise,
  clips, keeps the running average and guards against bad steps.
  """
  import jax
  import numpy as np

  from lumiere_jax import build, sharding
  from lumiere_jax.stage import abstract_batch, make_stage
  from lumiere_jax.training.guard import Vote, place_vote
  from lumiere_jax.training.state import place_state

  mesh = sharding.make_mesh(cfg.mesh, jax.devices()[:1])
  text = (1, cfg.text.max_tokens, cfg.model.encoder_hid_dim)
  empty = np.zeros(text, np.float16), np.zeros(text[:2], bool)
  stage = make_stage(cfg, empty, mesh)
  shapes = abstract_batch(cfg, mesh)
  compiled = stage.step.lower(stage.like, shapes).compile()
  params = _random(build.init_params(cfg.model, 0), jax.random.key(0))
  parts = build.trainable(cfg, params)
  states = [place_state(*parts, stage.tx, stage.like)]
  rng = np.random.default_rng(0)
  values = {
    "pixels": rng.integers(0, 256, shapes["pixels"].shape),
    "text": rng.standard_normal(text),
    "mask": np.ones(text[:2]),
  }
  batch = {
    key: jax.device_put(values[key].astype(like.dtype), like.sharding)
    for key, like in shapes.items()
  }
  votes = place_vote(Vote.GO, mesh)

  def run() -> Any:
    after, metrics = compiled(states.pop(), batch, votes)
    states.append(after)
    return after, metrics

  return compiled, run
