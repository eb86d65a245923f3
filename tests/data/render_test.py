# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from lumiere_jax.data import motion, pack, render, world
from lumiere_jax.errors import UserError

BLUE = (30, 70, 210)


@pytest.fixture(scope="module")
def square() -> np.ndarray:
  """A loop of one frame: a white square with a red upper half."""
  sprite = np.zeros((1, 64, 64, 4), np.uint8)
  sprite[:, 2:62, 2:62] = 255
  sprite[:, 2:32, 2:62, 1:3] = 0
  return sprite


def _clip(sprite, movement, params=None, background=BLUE, num_frames=80):
  params = params or render.ClipParams()
  return render.render_clip(
    sprite, background, motion.Motion(movement), params, num_frames, 32
  )


def _object(clip: np.ndarray, background=BLUE) -> np.ndarray:
  return (clip != np.asarray(background, np.uint8)).any(-1)


def _centroids(clip: np.ndarray) -> np.ndarray:
  """(t, 2): y and x of the object's centre in units of the frame."""
  return np.stack([np.argwhere(m).mean(0) + 0.5 for m in _object(clip)]) / 32


@pytest.mark.parametrize(
  "movement, axis, sign",
  [
    ("slides left", 1, -1),
    ("slides right", 1, 1),
    ("slides up", 0, -1),
    ("slides down", 0, 1),
  ],
)
def test_slides_cross_the_frame_in_their_direction(
  square, movement, axis, sign
):
  centre = _centroids(_clip(square, movement))
  travel = centre[-1] - centre[0]
  assert travel[axis] * sign > 0.45
  assert abs(travel[1 - axis]) < 0.01
  steps = np.diff(centre[:, axis]) * sign
  assert steps.min() > -0.005  # never back, pixel by pixel


@pytest.mark.parametrize("movement, sign", [("grows", 1), ("shrinks", -1)])
def test_growing_changes_the_side_from_two_to_nineteen_twentieths(
  square, movement, sign
):
  clip = _clip(square, movement)
  side = np.sqrt(_object(clip).sum((1, 2))) / 32
  small, large = side[[0, -1]][::sign]
  assert 0.35 < small < 0.45 and 0.85 < large < 1.0
  centre = _centroids(clip)
  np.testing.assert_allclose(centre, 0.5, atol=0.02)


def test_spinning_turns_twice_clockwise(square):
  clip = _clip(square, "spins", num_frames=81).astype(int)
  red = (clip[..., 0] > 200) & (clip[..., 1] < 80)
  offset = np.stack([np.argwhere(m).mean(0) + 0.5 - 16 for m in red])
  # Clockwise as seen, from the top; rows run downwards.
  angle = np.unwrap(np.arctan2(offset[:, 1], -offset[:, 0]))
  np.testing.assert_allclose(angle, np.linspace(0, 4 * np.pi, 81), atol=0.15)
  np.testing.assert_allclose(_centroids(clip.astype(np.uint8)), 0.5, atol=0.02)


def test_bouncing_hops_four_times_and_lands(square):
  y = _centroids(_clip(square, "bounces"))[:, 0]
  high = y < (y.min() + y.max()) / 2
  assert (np.diff(high.astype(int)) == 1).sum() == 4
  assert y[0] == pytest.approx(y[-1], abs=0.02)
  assert y.max() - y.min() > 0.3


def test_a_still_object_stays(square):
  clip = _clip(square, "stays")
  np.testing.assert_array_equal(clip, np.broadcast_to(clip[:1], clip.shape))


@pytest.mark.parametrize("movement", world.MOVEMENTS)
def test_the_background_is_exact(square, movement):
  for background in world.BACKGROUNDS.values():
    clip = _clip(square, movement, background=background, num_frames=3)
    assert clip.dtype == np.uint8 and clip.shape == (3, 32, 32, 3)
    # At the most a whole row or column stays free of the object.
    exact = (clip == np.asarray(background)).all(-1)
    assert exact.mean() > 0.05
    empty = render.render_clip(
      np.zeros_like(square),
      background,
      motion.Motion(movement),
      render.ClipParams(),
      3,
      32,
    )
    assert (empty == np.asarray(background)).all()


def test_opaque_pixels_keep_their_colour(square):
  middle = _clip(square, "stays")[0]
  np.testing.assert_array_equal(middle[20, 16], [255, 255, 255])
  np.testing.assert_array_equal(middle[11, 16], [255, 0, 0])


def test_parameters_shift_scale_and_start_the_loop(square):
  moved = render.ClipParams(dx=0.125, dy=-0.125)
  np.testing.assert_array_equal(
    _clip(square, "stays", moved)[0, :16],
    np.roll(_clip(square, "stays")[0], (-4, 4), (0, 1))[:16],
  )
  larger = _object(_clip(square, "stays", render.ClipParams(scale=1.2)))
  ratio = larger[0].sum() / _object(_clip(square, "stays"))[0].sum()
  assert ratio == pytest.approx(1.44, abs=0.15)


def test_the_loop_runs_on_from_its_phase_without_a_seam(sprites):
  info = pack.read_index(sprites)[0]
  frames = pack.read_sprite(sprites, info).frames
  assert len(frames) == info.frames
  long = 2 * len(frames)
  clip = _clip(frames, "stays", num_frames=long).astype(int)
  later = _clip(frames, "stays", render.ClipParams(phase=7), num_frames=long)
  np.testing.assert_array_equal(clip[7:], later[:-7])
  np.testing.assert_array_equal(clip[: long // 2], clip[long // 2 :])
  steps = np.abs(np.diff(clip, axis=0)).mean((1, 2, 3))
  assert steps[len(frames) - 1] < 3 * np.median(steps) + 1


def test_slow_movement_does_not_flicker(square):
  """Box filtering keeps the sum of what is drawn nearly constant."""
  clip = _clip(square, "slides right", background=(0, 0, 0))[20:60]
  total = clip.astype(float).sum((1, 2, 3))
  assert total.std() / total.mean() < 0.004


def test_unknown_movement_names_the_nearest(square):
  with pytest.raises(UserError, match="did you mean 'spins'"):
    _clip(square, "spin")
