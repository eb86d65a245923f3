# SPDX-License-Identifier: Apache-2.0
"""`score` as a user runs it, on files of many kinds, by a network of a line."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from lumiere_jax import extractors, media, score
from lumiere_jax.errors import UserError
from lumiere_jax.scores import Cut, Folder
from lumiere_jax.scoring.slices import xt_slice
from lumiere_jax.weights import folder
from tests.video_files import cut_off, write_video

FPS = 16
FRAMES = 8
OPTIONS = ("--rounds=20", "--allow_small")


def moving(seed, speed=2, frames=FRAMES, px=32):
  """Blots that move to the right."""
  rng = np.random.default_rng(seed)
  image = Image.fromarray(rng.integers(0, 255, (6, 6, 3), np.uint8))
  image = np.asarray(image.resize((px, px), Image.Resampling.BICUBIC))
  return np.stack([np.roll(image, speed * i, axis=1) for i in range(frames)])


def written(path, clips):
  for index, clip in enumerate(clips):
    media.write_webp(path / f"{index:03d}.webp", clip, FPS)
  return path


@pytest.fixture
def real(tmp_path):
  return written(tmp_path / "real", [moving(i) for i in range(8)])


@pytest.fixture
def made(tmp_path):
  return written(tmp_path / "made", [moving(20 + i, speed=1) for i in range(4)])


@pytest.fixture
def network(tmp_path, monkeypatch):
  """Of the mean colours and how much they change: 6 features."""

  def features(params, config, x):
    changes = jnp.abs(jnp.diff(x, axis=1)).mean(axis=(1, 2, 3))
    both = jnp.concatenate([x.mean(axis=(1, 2, 3)), changes], axis=1)
    return both @ params["kernel"]

  kind = extractors.Kind(
    title="Toy",
    resize="none",
    frames=2,
    params=lambda config: {"kernel": np.zeros((6, 6), np.float32)},
    pixels=lambda config, clip: clip,
    network=features,
  )
  monkeypatch.setitem(extractors.KINDS, "toy", kind)
  path = tmp_path / "toy"
  params = {"kernel": np.eye(6, dtype=np.float32)}
  folder.save(path, params, {"features": {"kind": "toy"}}, "made for a test")
  return path


def run(*args, fps=FPS):
  chosen = (f"--frames={FRAMES}", f"--fps={fps}", *OPTIONS)
  score.main([str(arg) for arg in (*chosen, *args)])


def scores(path):
  """Value and card of each score, by clips and name."""
  result = json.loads(path.read_text())
  found = {
    (name, row["card"]["score"]): row
    for name, rows in result["rows"].items()
    for row in rows
  }
  return found, result["left_out"]


def test_pixels_alone_need_no_network(made, tmp_path, capsys):
  run(f"--generated={made}", f"--out={tmp_path / 'a.json'}")
  found, left_out = scores(tmp_path / "a.json")
  assert {name for name, _ in found} == {"generated"}
  speed = found["generated", "block_speed"]
  assert speed["value"] == pytest.approx(FPS / 32, rel=0.3)
  low, high = speed["interval"]
  assert low <= speed["value"] <= high
  card = speed["card"]
  assert (card["network"], card["generated"], card["fps"]) == ("pixels", 4, FPS)
  assert card["hash"] in capsys.readouterr().out
  assert card["resize"] == "none: frames of 32 x 32 pixels"
  assert left_out == {"real": {}, "generated": {}, "scores": {}}


def test_a_network_sees_generated_clips_and_spoilt_ones(
  real, made, network, tmp_path
):
  out = tmp_path / "a.json"
  run(
    f"--generated={made}",
    f"--real={real}",
    f"--network={network}",
    f"--out={out}",
  )
  found, _ = scores(out)
  sets = {"generated", "generated, half", "real", "frozen", "shuffled"}
  sets |= {"reversed", "noised"}
  assert {name for name, score in found if score == "Toy-FD"} == sets
  value = {name: found[name, "Toy-FD"]["value"] for name in sets}
  # It sees that frozen clips do not change, and cannot see backwards.
  assert value["reversed"] == pytest.approx(value["real"], rel=1e-3)
  assert value["frozen"] > 2 * value["real"]
  card = found["generated", "Toy-FD"]["card"]
  info = folder.load_info(network)
  assert card["network_sha256"] == info.fingerprint
  assert (card["real"], card["generated"], card["frames"]) == (8, 4, FRAMES)
  assert card["reference"].startswith("real, sha256 ")
  assert card["dtype"] == "float64"


def test_generated_clips_that_are_the_real_ones_have_no_distance(
  real, network, tmp_path
):
  out = tmp_path / "a.json"
  run(
    *(f"--generated={real}", f"--real={real}"),
    *(f"--network={network}", f"--out={out}"),
  )
  found, _ = scores(out)
  assert found["generated", "Toy-FD"]["value"] == pytest.approx(0, abs=1e-6)


def test_a_classifier_gives_the_inception_score(
  real, made, network, tmp_path, monkeypatch
):
  """C3D's way in, with the network of a line: of sure classes, 2 is most."""

  def sure(params, config, x):
    return 1e3 * jnp.array([[1.0, -1.0]]) * (x.mean() - 128)

  kind = dataclasses.replace(extractors.KINDS["toy"], network=sure)
  monkeypatch.setitem(extractors.KINDS, "c3d", kind)
  path = tmp_path / "c3d"
  params = {"kernel": np.eye(6, dtype=np.float32)}
  folder.save(path, params, {"features": {"kind": "c3d"}}, "made for a test")
  for i in range(30):
    value = 100 if i % 2 else 200
    clip = np.full((FRAMES, 32, 32, 3), value, np.uint8)
    media.save_npy(tmp_path / "many" / f"{i:02d}.npy", clip)
  out = tmp_path / "a.json"
  run(
    *(f"--generated={tmp_path / 'many'}", f"--real={tmp_path / 'many'}"),
    *(f"--network={path}", f"--out={out}"),
  )
  found, _ = scores(out)
  row = found["generated", "IS"]
  # Parts of three clips: both classes, if they are mixed.
  assert 1.5 < row["value"] <= 2
  assert (row["card"]["splits"], row["card"]["generated"]) == (10, 30)
  assert found["real, all", "IS"]["card"]["real"] == 30
  with pytest.raises(UserError, match="2 classes: 20 are needed"):
    score.main(
      [
        *(f"--generated={made}", f"--network={path}"),
        *(f"--frames={FRAMES}", f"--fps={FPS}"),
      ]
    )


def test_films_are_read_and_damaged_or_short_ones_counted(
  tmp_path, network, capsys
):
  """H.264; what cannot be read changes nothing of the scores."""
  good, mixed = tmp_path / "good", tmp_path / "mixed"
  for path in (good, mixed):
    path.mkdir()
    for index in range(8):
      write_video(path / f"{index}.mp4", seconds=1 + index / 4, fps=FPS)
  cut_off(write_video(mixed / "damaged.mp4", fps=FPS), 0.3)
  write_video(mixed / "short.mp4", seconds=0.25, fps=FPS)
  (mixed / "empty.mp4").touch()
  for path in (good, mixed):
    run(
      *(f"--generated={path}", f"--real={good}", f"--network={network}"),
      f"--out={tmp_path / path.name}.json",
    )
  found, left_out = scores(tmp_path / "mixed.json")
  assert set(left_out["generated"]) == {"damaged.mp4", "short.mp4", "empty.mp4"}
  assert "4 of 8 frames" in left_out["generated"]["short.mp4"]
  assert "3 generated clips were left out" in capsys.readouterr().out
  assert found == scores(tmp_path / "good.json")[0]


def test_a_clip_in_several_files_is_read_once(tmp_path):
  """As `sample` writes them, of an enlarged clip the small one too."""
  clip = moving(0)
  for name in ("a", "a.low", "b"):
    media.write_mp4(tmp_path / f"{name}.mp4", clip, FPS, scale=4)
    media.write_webp(tmp_path / f"{name}.webp", clip, FPS)
  (tmp_path / "a.json").write_text(json.dumps({"prompt": " a ghost "}))
  (tmp_path / "b.txt").write_text("a heart\non red\n")
  (tmp_path / ".c.webp.tmp").touch()
  found = list(Folder(str(tmp_path), Cut(frames=FRAMES, fps=FPS)))
  assert [c.name for c in found] == ["a.webp", "b.webp"]
  assert [c.caption for c in found] == ["a ghost", "a heart on red"]
  np.testing.assert_array_equal(found[0].pixels, clip)


def test_strides_and_rates_pick_frames(tmp_path):
  write_video(tmp_path / "a.mp4", seconds=2, fps=24)
  every = Cut(frames=48).read(tmp_path / "a.mp4")[0]
  np.save(tmp_path / "b.npy", every)
  (tmp_path / "b.json").write_text('{"config": {"data": {"fps": 24}}}')
  array, rate = Cut(frames=12, fps=10).read(tmp_path / "b.npy")
  assert rate == 10
  film = Cut(frames=12, fps=10).read(tmp_path / "a.mp4")[0]
  np.testing.assert_array_equal(array, film)
  third = Cut(frames=16, stride=3).read(tmp_path / "a.mp4")[0]
  np.testing.assert_array_equal(third, every[::3])
  slow, rate = Cut(frames=16, fps=8).read(tmp_path / "a.mp4")
  assert rate == 8
  np.testing.assert_array_equal(slow, every[::3])
  with pytest.raises(UserError, match="48 of 49 frames"):
    Cut(frames=49).read(tmp_path / "a.mp4")


def test_rates_that_differ_are_refused_until_they_are_one(tmp_path):
  made = tmp_path / "made"
  made.mkdir()
  for fps in (8, 16):
    write_video(made / f"{fps}.mp4", seconds=2, fps=fps)
  message = r"^8\.mp4 has 8 frames a second, 16\.mp4 16: --fps"
  with pytest.raises(UserError, match=message):
    run(f"--generated={made}", fps=0)
  run(f"--generated={made}", f"--out={tmp_path / 'a.json'}")
  found, _ = scores(tmp_path / "a.json")
  assert found["generated", "block_speed"]["card"]["generated"] == 2


def test_arrays_and_animated_images_are_told_their_rate(tmp_path):
  """By --fps or by the sidecar; equal neighbours of a WebP are one frame."""
  clip = np.repeat(moving(0, frames=3), [3, 4, 1], axis=0)
  np.save(tmp_path / "a.npy", clip)
  media.write_webp(tmp_path / "b.webp", clip, FPS)
  for name in ("a.npy", "b.webp"):
    with pytest.raises(UserError, match=rf"{name} tells no frame rate: --fps"):
      run(f"--generated={tmp_path / name}", fps=0)
    np.testing.assert_array_equal(
      Cut(frames=FRAMES, fps=FPS).read(tmp_path / name)[0], clip
    )
  sidecar = {"prompt": "a ghost", "config": {"data": {"fps": FPS}}}
  for name in "ab":
    (tmp_path / f"{name}.json").write_text(json.dumps(sidecar))
  out = tmp_path / "out" / "c.json"
  run(f"--generated={tmp_path}", f"--out={out}", fps=0)
  found, _ = scores(out)
  assert found["generated", "block_speed"]["card"]["fps"] == FPS
  assert found["generated", "static_share"]["value"] == pytest.approx(5 / 7)
  np.save(tmp_path / "d.npy", np.zeros((8, 4, 4)))
  run(f"--generated={tmp_path}", f"--out={tmp_path / 'out' / 'd.json'}")
  _, left_out = scores(tmp_path / "out" / "d.json")
  assert "float64" in left_out["generated"]["d.npy"]


def test_only_scores_of_one_protocol_are_compared(made, tmp_path, capsys):
  a, b, c = (tmp_path / f"{name}.json" for name in "abc")
  run(f"--generated={made}", f"--out={a}")
  run(f"--generated={made}", f"--out={b}")
  run(f"--generated={made}", f"--out={c}", "--stride=1", "--seed=1")
  capsys.readouterr()
  score.main([f"--compare={a},{b}"])
  assert "pixel_flicker" in capsys.readouterr().out
  with pytest.raises(UserError, match="cannot be compared: seed: 0 and 1"):
    score.main([f"--compare={a},{c}"])
  score.main([f"--compare={a},{c}", "--force"])
  shown = capsys.readouterr().out.splitlines()
  assert len(shown) == 8 and all(" and " in line for line in shown)
  result = json.loads(c.read_text())
  result["rows"]["generated"][0]["card"]["frames"] = 80
  c.write_text(json.dumps(result))
  with pytest.raises(UserError, match="card was changed"):
    score.main([f"--compare={a},{c}", "--force"])


def test_clips_of_other_sizes_or_others_are_not_compared(
  real, made, network, tmp_path, capsys
):
  """Of one name and number; nothing is shown of what is refused."""
  large = [np.repeat(np.repeat(moving(i), 2, 1), 2, 2) for i in range(8)]
  other = written(tmp_path / "other" / "real", large)
  outs = [tmp_path / f"{name}.json" for name in "abc"]
  for out, reference, clips in zip(
    outs, (real, other, real), (made, made, other), strict=True
  ):
    run(
      *(f"--generated={clips}", f"--real={reference}", f"--out={out}"),
      f"--network={network}",
    )
  found = [scores(out)[0] for out in outs]
  cards = [f["generated", "Toy-KD"]["card"] for f in found]
  assert cards[0]["reference"] != cards[1]["reference"]
  assert cards[0]["reference"] == cards[2]["reference"]
  sizes = [
    f[of, "block_speed"]["card"]["resize"]
    for f, of in zip(found, ("real", "real", "generated"), strict=True)
  ]
  assert [text.split()[3] for text in sizes] == ["32", "64", "64"]
  capsys.readouterr()
  with pytest.raises(UserError, match="cannot be compared: reference: 'real, "):
    score.main([f"--compare={outs[0]},{outs[1]}"])
  with pytest.raises(UserError, match="cannot be compared: resize: 'none"):
    score.main([f"--compare={outs[0]},{outs[2]}"])
  assert not capsys.readouterr().out


def test_tiny_clips_are_left_out_and_few_frames_have_no_measures_of_pixels(
  real, made, network, tmp_path, capsys
):
  media.save_npy(made / "tiny.npy", np.zeros((FRAMES, 8, 40, 3), np.uint8))
  out = tmp_path / "a.json"
  run(
    *(f"--generated={made}", f"--real={real}", f"--network={network}"),
    *("--frames=3", f"--out={out}"),
  )
  found, left_out = scores(out)
  assert "frames of 8 x 40 pixels" in left_out["generated"]["tiny.npy"]
  assert "fewer than 4" in left_out["scores"]["what needs no network"]
  assert {score for _, score in found} == {"Toy-FD", "Toy-KD"}
  text = capsys.readouterr().out
  assert "what needs no network was not measured: --frames=3" in text


def test_a_clip_that_cannot_be_measured_is_named(made, network, monkeypatch):
  def measured(self, clip):
    raise UserError("it is no clip")

  monkeypatch.setattr("lumiere_jax.meters.Means.__call__", measured)
  with pytest.raises(UserError, match=r"^000\.webp: it is no clip"):
    run(f"--generated={made}")


def test_slices_stand_beside_the_real_ones(real, made, tmp_path):
  out = tmp_path / "slices.png"
  run(f"--generated={made}", f"--real={real}", f"--xt_slice={out}", "--row=3")
  picture = media.read_image(out).pixels
  clips = list(Folder(str(real), Cut(frames=FRAMES, fps=FPS)))
  part = xt_slice(clips[1].pixels, 3)
  # 240 pixels wide each, with 2 between.
  height = round(FRAMES * 240 / 32)
  shown = picture[-height:, 242 : 242 + 240]
  side = np.asarray(
    Image.fromarray(part).resize((240, height), Image.Resampling.NEAREST)
  )
  np.testing.assert_array_equal(shown, side)
  one = made / "000.webp"
  run(f"--generated={one}", f"--xt_slice={tmp_path / 'one.png'}")
  assert media.read_image(tmp_path / "one.png").pixels.shape[1] == 240
  with pytest.raises(UserError, match="row 40"):
    run(f"--generated={one}", f"--xt_slice={tmp_path / 'n.png'}", "--row=40")
  assert not (tmp_path / "n.png").exists()


@pytest.mark.parametrize(
  ("args", "message"),
  [
    ((), "--generated is needed"),
    (("--generated=nowhere",), "nowhere is no folder of clips"),
    (("--generated=.",), "has no clip in it"),
    (("--generated={made}", "--frames=0"), "--frames=0 must be >= 1"),
    (("--generated={made}", "--rounds=3"), "--rounds=3"),
    (("--generated={made}", "--network={net}"), "toy are against --real"),
    (("--generated={made}", "--network={made}"), r"made/config\.json"),
    (
      ("--generated={made}", "--frames=80"),
      "none of 4 clips .*000.webp has 8 of 80",
    ),
    (("--generated={made}", "--frames=3"), "needs no network needs 4"),
    (
      ("--generated={made}", "--real={made}", "--network={net}", "--frames=1"),
      "toy sees 2 frames or more, not 1",
    ),
    (("--generated={made}", "--out={made}/000.webp"), "exists already"),
    (("--generated={made}", "--xt_slice=a.jpg"), "must end in .png"),
    (("--generated={net}", "--real={made}", "--network={net}"), "no clip in"),
    (("--compare=a.json",), "must be two files"),
    (("--compare=a.json,b.json",), r"a\.json holds no scores"),
    (("--generated={made}", "--nope"), "unrecognized arguments: --nope"),
  ],
)
def test_mistakes_are_one_line(
  args, message, made, network, tmp_path, monkeypatch
):
  (tmp_path / "empty").mkdir()
  monkeypatch.chdir(tmp_path / "empty")
  args = [arg.format(made=made, net=network) for arg in args]
  with pytest.raises(UserError, match=message) as error:
    run(*args)
  assert "\n" not in str(error.value)
  assert not list((tmp_path / "empty").iterdir())


def test_canaries_stand_beside_clips_that_they_are_of(real, made, tmp_path):
  """Backwards there is the same change: equal clips have equal flicker."""
  out = tmp_path / "a.json"
  run(f"--generated={made}", f"--real={real}", f"--out={out}")
  found, _ = scores(out)
  flicker = {n: found[n, "pixel_flicker"] for n in ("real", "reversed")}
  assert flicker["real"]["value"] == pytest.approx(flicker["reversed"]["value"])
  cards = {n: row["card"] for n, row in flicker.items()}
  assert [cards["real"][k] for k in ("real", "generated")] == [4, 0]
  assert found["real, all", "pixel_flicker"]["card"]["real"] == 8
  # A mean of generated clips has no reference.
  assert found["generated", "pixel_flicker"]["card"]["reference"] == ""


def test_folders_below_are_read_if_there_is_no_clip_above(made, tmp_path):
  """Others' copies, as VBench's, do not count twice."""
  (made / "vbench").mkdir()
  media.write_mp4(made / "vbench" / "a-0.mp4", moving(20), FPS)
  cut = Cut(frames=FRAMES, fps=FPS)
  assert len(Folder(str(made), cut)) == 4
  above = tmp_path / "above"
  above.mkdir()
  made.rename(above / "made")
  names = [clip.name for clip in Folder(str(above), cut)]
  assert len(names) == 5 and "made/vbench/a-0.mp4" in names


def test_few_clips_have_no_stable_covariance(real, made, network):
  with pytest.raises(UserError, match="12 of each kind are needed"):
    score.main(
      [
        *(f"--generated={made}", f"--real={real}", f"--network={network}"),
        *(f"--frames={FRAMES}", f"--fps={FPS}"),
      ]
    )


def test_captions_that_cannot_be_read_are_told(tmp_path):
  (tmp_path / "a.json").write_text("{")
  with pytest.raises(UserError, match=r"a\.json beside a clip"):
    media.read_caption(tmp_path / "a.mp4")
  assert media.read_caption(tmp_path / "b.mp4") == ""
