# SPDX-License-Identifier: Apache-2.0
"""Operations of a training step and of sampling, from the account of a call."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

import numpy as np

from lumiere_jax.config import SamplerConfig
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.profiling.ledger import Layer
from lumiere_jax.profiling.network import Network
from lumiere_jax.shapes import Int

# What the backward pass makes anew, by the policy (`config.network.REMAT`).
_ANEW: dict[str, Callable[[Layer], bool]] = {
  "none": lambda layer: False,
  "blocks": lambda layer: layer.recomputed,
  "convs": lambda layer: layer.recomputed and layer.op not in _KEPT,
  "offload": lambda layer: layer.recomputed and layer.op not in _KEPT,
}
_KEPT = ("conv", "temporal")

# Operations for each number that trains: clipping (3), Adam's moments and step
# (16), decay and rate (4), the running average (3) and three norms (6).
_UPDATE = 32


@dataclass(frozen=True)
class Counting:
  """What counts as an operation.

  Attributes:
    padding: whether taps that multiply the zeros beside the image do.
  """

  padding: bool = True


# As the arithmetic of a paper has it, and as XLA counts. TPUs cut the images
# of a small batch, up to about 8, into pieces whose edges overlap, and multiply
# up to a third more; no count here has that.
NOMINAL = Counting()
AS_XLA = Counting(padding=False)


@dataclass(frozen=True)
class Flops:
  """Operations by what they are for; two for each multiplication and addition.

  Attributes:
    forward: the network's output.
    input_gradients: down to the first layer that trains.
    weight_gradients: of kernels that train.
    recomputed: made anew in the backward pass.
    update: optimizer and running average, about.
  """

  forward: float = 0.0
  input_gradients: float = 0.0
  weight_gradients: float = 0.0
  recomputed: float = 0.0
  update: float = 0.0

  @property
  def total(self) -> float:
    return sum((getattr(self, f.name) for f in fields(self)), 0.0)

  @property
  def multiplied(self) -> float:
    """Those of matrix multiplications and convolutions."""
    return self.total - self.update


def forward_flops(
  layers: Iterable[Layer], counting: Counting = NOMINAL
) -> float:
  """Operations of one call of the network."""
  return sum((_forward(layer, counting) for layer in layers), 0.0)


def train_flops(
  network: Network,
  remat: str = "none",
  counting: Counting = NOMINAL,
) -> Flops:
  """Operations of one training step on the batch that was counted.

  A layer has as many gradients as operands whose gradient is wanted, and each
  costs what the layer itself does: of kernels that train, and of activations
  that depend on one. Frozen layers in front of the first that trains have none.

  Args:
    network: counted with the parameters that train.
    remat: the policy (`model.remat`).
    counting: what counts.

  Raises:
    UserError: there is no such policy.
  """
  if remat not in _ANEW:
    raise UserError(f"no remat policy {remat!r}{nearest(remat, _ANEW)}")
  anew = _ANEW[remat]
  sums = dict.fromkeys((f.name for f in fields(Flops)), 0.0)
  for layer in network.layers:
    flops = _forward(layer, counting)
    sums["forward"] += flops
    sums["input_gradients"] += flops * layer.inputs
    sums["weight_gradients"] += flops * layer.weights
    sums["recomputed"] += flops * anew(layer)
  sums["update"] = float(_UPDATE * network.trained)
  return Flops(**sums)


@dataclass(frozen=True)
class Calls:
  """How often sampling calls the network.

  Attributes:
    double: steps that compute guidance: one call on twice the batch.
    single: those without, or with the guidance of an earlier step.
    guide: those of both kinds that call the sampler's guide too.
  """

  double: int
  single: int
  guide: int = 0

  @property
  def clips(self) -> int:
    """Calls of the network on one clip for each clip that is made."""
    return 2 * self.double + self.single


def sampling_calls(
  cfg: SamplerConfig,
  timesteps: Int[np.ndarray, " steps"],
  num_timesteps: int,
) -> Calls:
  """Counts the calls that make a clip (`diffusion.guidance.guided`).

  All are counted whole, those too that run the fine levels only
  (`sampler.deep_every`).

  Args:
    cfg: the sampler.
    timesteps: those it visits (`diffusion.sampler.sampling_timesteps`).
    num_timesteps: T; guidance_interval is in parts of it.
  """
  low, high = (part * num_timesteps for part in cfg.guidance_interval)
  everywhere = cfg.guidance_interval == (0.0, 1.0)
  led = sum(everywhere or low <= t <= high for t in timesteps.tolist())
  guide = led if cfg.autoguided else 0
  if cfg.guidance == 1.0:
    led = 0
  led = -(-led // cfg.guidance_every)  # As `diffusion.reuse.reusing`.
  return Calls(led, len(timesteps) - led, guide)


def sample_flops(
  network: Network,
  calls: Calls,
  windows: int = 1,
  counting: Counting = NOMINAL,
  guide: Network | None = None,
) -> float:
  """Operations that make the counted batch of clips.

  Args:
    network: counted on one batch, without guidance.
    calls: how often it is called.
    windows: parts of the clip that it sees one after the other (section 3.2).
    counting: what counts.
    guide: the sampler's, counted likewise; None if it has none.
  """
  once = forward_flops(network.layers, counting) * calls.clips
  if guide is not None:
    once += forward_flops(guide.layers, counting) * calls.guide
  return once * windows


def _forward(layer: Layer, counting: Counting) -> float:
  return layer.flops * (1.0 if counting.padding else layer.inside)
