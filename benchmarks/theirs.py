# SPDX-License-Identifier: Apache-2.0
"""One turn of a network in PyTorch."""

from collections.abc import Callable
from typing import Any

from benchmarks.comparison import Size
from benchmarks.peers import PEERS, Peer

LAYOUTS = ("contiguous", "channels_last")


def turn(
  name: str,
  size: Size,
  work: str,
  repeats: int,
  *,
  device: str,
  layout: str,
  compiled: bool,
  first: bool,
) -> dict[str, Any]:
  """Runs and times one piece of work.

  Args:
    name: of the network, from `peers.PEERS`.
    size: of the network and its clip.
    work: one of `comparison.WORKS`.
    repeats: timed runs, after one that is not.
    device: "cpu" or "gpu".
    layout: one of LAYOUTS, or "auto" for the faster one, which is tried out.
    compiled: whether by torch.compile.
    first: whether operations are to be counted.

  Returns:
    What `comparison.summed_up` takes.
  """
  import torch

  from lumiere_jax import cli
  from lumiere_jax.benchmarking.clock import measure

  cli.keep_freed_memory()
  torch.manual_seed(0)
  where = torch.device("cuda" if device == "gpu" else "cpu")
  if device == "gpu":  # As XLA multiplies there: in TF32.
    torch.set_float32_matmul_precision("high")
  peer = PEERS[name](size)
  peer.network.to(where)
  clip = torch.randn(1, 3, size.frames, size.pixels, size.pixels, device=where)
  trained = prepare(peer, work)
  told: dict[str, Any] = {
    "name": name,
    "framework": "torch.compile" if compiled else "torch",
    "platform": where.type,
    "threads": torch.get_num_threads(),
    "parameters": sum(p.numel() for p in peer.parameters),
    "trained": sum(p.numel() for p in trained),
  }
  run = _work(peer, trained, work)
  if first:
    told["flops"] = counted(lambda: run(clip))
  if compiled:
    peer.network.compile()
  wait = torch.cuda.synchronize if device == "gpu" else None

  def timed(layout: str, repeats: int) -> Any:
    x = lay_out(peer, clip, layout)
    return measure(lambda: run(x), repeats, wait=lambda _: wait and wait())

  try:
    if layout == "auto":
      tried = {each: timed(each, 1).median for each in LAYOUTS}
      layout = min(tried, key=tried.get)
      told["layouts_tried_seconds"] = tried
    times = timed(layout, repeats)
  except Exception as error:
    if not compiled:
      raise
    return {**told, "failed": f"{type(error).__name__}: {error}"[:500]}
  if device == "gpu":
    told["device_peak_bytes"] = torch.cuda.max_memory_allocated()
  return {**told, "layout": layout, "times": times.as_dict()}


def prepare(peer: Peer, work: str) -> list[Any]:
  """Freezes what does not train; returns what does."""
  parts = {
    "forward": [],
    "train": peer.parameters,
    "train_temporal": peer.temporal,
  }
  peer.network.train(work != "forward")
  for parameter in peer.parameters:
    parameter.requires_grad_(False)
  for parameter in parts[work]:
    parameter.requires_grad_(True)
  return [p for p in parts[work] if p.is_floating_point()]


def _work(peer: Peer, trained: list[Any], work: str) -> Callable[[Any], Any]:
  """(clip) -> one call, or one step that learns to tell noise from clip."""
  import torch

  if work == "forward":

    def forward(x: Any) -> Any:
      with torch.inference_mode():
        return peer.call(x)

    return forward

  optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)

  def step(x: Any) -> Any:
    noise = torch.randn_like(x)
    loss = torch.nn.functional.mse_loss(peer.call(x + noise), noise)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss

  return step


def counted(run: Callable[[], Any]) -> int:
  """Operations of a run, two for each multiplication and addition.

  Fused attention is taken apart, since not every form of it is counted.
  """
  from torch.nn.attention import SDPBackend, sdpa_kernel
  from torch.utils.flop_counter import FlopCounterMode

  with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
    run()
  return counter.get_total_flops()


def lay_out(peer: Peer, clip: Any, layout: str) -> Any:
  """Puts kernels in this order in memory, and returns the clip in it."""
  import torch

  forms = {4: torch.contiguous_format, 5: torch.contiguous_format}
  if layout == "channels_last":
    forms = {4: torch.channels_last, 5: torch.channels_last_3d}
  for parameter in peer.parameters:
    if parameter.ndim in forms:
      parameter.data = parameter.data.contiguous(
        memory_format=forms[parameter.ndim]
      )
  return clip.contiguous(memory_format=forms[5])
