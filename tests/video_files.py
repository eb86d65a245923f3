# SPDX-License-Identifier: Apache-2.0
"""Encoded videos that tell the time, and ways to damage them."""

import struct
from fractions import Fraction

import av
import numpy as np


def grey(time, seconds):
  """The level that a frame shown at a time has; each time has its own."""
  return 20 + 200 * time / seconds


def write_video(
  path,
  times=None,
  *,
  seconds=4.0,
  fps=25,
  size=(32, 48),
  codec="libx264",
  gop=25,
  sound=False,
):
  """Writes frames shown from the given times (seconds) on, as `grey` says.

  The left third is darker by 10 than the rest, so that crops can be told.
  """
  times = np.arange(round(seconds * fps)) / fps if times is None else times
  clock = 1000
  with av.open(str(path), "w") as container:
    options = {"g": str(gop), "crf": "5", "sc_threshold": "0"}
    stream = container.add_stream(codec, rate=fps, options=options)
    stream.height, stream.width = size
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, clock)
    if codec != "libx264":
      stream.bit_rate = 2_000_000
      stream.codec_context.time_base = Fraction(1, fps)
      clock = fps
    audio = container.add_stream("aac", rate=16000) if sound else None
    for time in times:
      image = np.full((*size, 3), round(grey(time, seconds)), np.uint8)
      image[:, : size[1] // 3] -= 10
      frame = av.VideoFrame.from_ndarray(image, format="rgb24")
      frame.pts, frame.time_base = round(time * clock), Fraction(1, clock)
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
    if audio is not None:
      _add_silence(container, audio, seconds)
  return path


def write_sound(path, seconds=1.0):
  """Writes a file that has sound alone."""
  with av.open(str(path), "w") as container:
    _add_silence(container, container.add_stream("aac", rate=16000), seconds)
  return path


def turn(path):
  """Sets the display matrix to a quarter turn, as a phone held upright does."""
  data = path.read_bytes()
  matrix = struct.Struct(">9i")
  plain = matrix.pack(65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
  at = data.index(plain, data.index(b"tkhd"))
  turned = matrix.pack(0, 65536, 0, -65536, 0, 0, 32 * 65536, 0, 1 << 30)
  path.write_bytes(data[:at] + turned + data[at + len(plain) :])
  return path


def cut_off(path, share=0.5):
  """Keeps the first share of a file's bytes."""
  data = path.read_bytes()
  path.write_bytes(data[: round(len(data) * share)])
  return path


def _add_silence(container, stream, seconds):
  for _ in range(round(seconds * 16000 / 1024)):
    frame = av.AudioFrame.from_ndarray(
      np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
    )
    frame.sample_rate = 16000
    container.mux(stream.encode(frame))
  container.mux(stream.encode(None))
