# SPDX-License-Identifier: Apache-2.0
import numpy as np
from PIL import Image

from lumiere_jax.data import animation


def _flat(*values: int) -> np.ndarray:
  """Opaque gray frames that differ in value only."""
  frames = np.full((len(values), 8, 8, 4), 255, np.uint8)
  frames[..., :3] = np.asarray(values)[:, None, None, None]
  return frames


def _values(frames: np.ndarray) -> list[int]:
  return frames[:, 0, 0, 0].tolist()


def test_resampling_honours_real_timestamps(tmp_path):
  path = tmp_path / "uneven.webp"
  images = [Image.fromarray(frame) for frame in _flat(10, 20, 30)]
  images[0].save(
    path,
    save_all=True,
    append_images=images[1:],
    duration=[250, 500, 250],
    lossless=True,
  )
  frames, durations = animation.read_animation(path)
  assert durations.tolist() == [250, 500, 250]
  assert animation.loop_frames(durations, 16) == 16
  shown = _values(animation.resample(frames, durations, 16))
  assert shown == [10] * 4 + [20] * 8 + [30] * 4


def test_slow_frames_are_repeated_and_fast_ones_dropped():
  frames, slow = _flat(1, 2, 3), np.array([125, 125, 125])
  shown = animation.resample(frames, slow, animation.loop_frames(slow, 16))
  assert _values(shown) == [1, 1, 2, 2, 3, 3]
  fast = slow // 5
  shown = animation.resample(frames, fast, animation.loop_frames(fast, 16))
  assert len(shown) == 1


def test_a_written_loop_reads_back_exactly(tmp_path):
  rng = np.random.default_rng(0)
  frames = rng.integers(0, 256, (5, 16, 16, 4)).astype(np.uint8)
  frames[..., 3] = 255
  frames[3] = frames[2]  # which the encoder merges into one
  animation.write_webp(tmp_path / "loop.webp", frames, 16)
  stored, durations = animation.read_animation(tmp_path / "loop.webp")
  assert len(stored) == 4
  np.testing.assert_array_equal(
    animation.resample(stored, durations, 5), frames
  )


def test_trim_keeps_the_whole_loop_in_one_box():
  frames = np.zeros((2, 64, 64, 4), np.uint8)
  frames[0, 20:30, 10:20] = 255
  frames[1, 20:30, 40:50] = 255
  trimmed = animation.trim(frames, 42)
  assert trimmed.shape == (2, 42, 42, 4)
  opaque = trimmed[..., 3] == 255
  # The box is 40 wide and 10 high, drawn at scale 1 with a margin of 1.
  np.testing.assert_array_equal(np.where(opaque[0].any(0))[0], range(1, 11))
  np.testing.assert_array_equal(np.where(opaque[1].any(0))[0], range(31, 41))
  assert opaque[0].sum() == opaque[1].sum() == 100


def test_trim_keeps_the_colour_of_soft_edges():
  frames = np.zeros((1, 65, 65, 4), np.uint8)  # transparent black outside
  frames[0, 3:62, 3:62] = (255, 255, 255, 255)
  edge = animation.trim(frames, 20)
  visible = edge[edge[..., 3] > 32]
  assert visible[:, :3].min() >= 250
