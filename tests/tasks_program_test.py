# SPDX-License-Identifier: Apache-2.0
"""Every task by the command line, on networks of random weights."""

import dataclasses
import inspect
import json

import numpy as np
import pytest

from lumiere_jax import Lumiere, cli, job, media, sample, trees
from lumiere_jax.conditioning.task import TASKS, Material, prepare
from lumiere_jax.config import from_dict, to_dict
from lumiere_jax.errors import UserError
from lumiere_jax.linked import weights_config
from lumiere_jax.models.stunet import is_input, is_temporal
from lumiere_jax.models.widen import widen_input
from lumiere_jax.weights import folder
from tests.models import nets
from tests.models.toy import CONFIG

BASE = {
  **CONFIG,
  "data": {"num_frames": 8, "size_px": 8},
  "sampler": {"name": "ddim", "steps": 4, "guidance": 2.0},
}
COND = {
  **BASE,
  "name": "toy_cond",
  "model": {**BASE["model"], "in_channels": 7},
  "condition": {"kind": "mask"},
}
pytestmark = pytest.mark.usefixtures("hashed_text")

MASKED = [name for name, task in TASKS.items() if task.masked]
WANTED = {
  "image_to_video": ["image"],
  "first_last": ["image", "last_image"],
  "inpaint": ["video", "mask"],
  "outpaint": ["video", "keep"],
  "cinemagraph": ["image", "mask"],
  "extend": ["video", "frames_given"],
  "video_to_video": ["video"],
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
  """Weights of the unconditional network, which name those of the other."""
  root = tmp_path_factory.mktemp("weights")
  base = from_dict({**BASE, "conditional": str(root / "cond")})
  cond = from_dict(COND)
  tree = nets.randomised(base.model)
  folder.save(root / "base", tree, to_dict(base), "licence")
  params = {**nets.randomised(cond.model), "conv_in": None}
  params["conv_in"] = widen_input(tree, cond.model)["conv_in"]
  folder.save(root / "cond", params, to_dict(cond), "licence")
  return root / "base"


@pytest.fixture(scope="module")
def shared():
  """Loaded models, whose programs are compiled once."""
  return {}


@pytest.fixture
def loaded(weights, shared):
  if not shared:
    shared["model"] = Lumiere.load(str(weights))
    shared["model"].for_task("inpaint")  # Loads the other one too.
  return shared["model"]


@pytest.fixture
def run(weights, loaded, monkeypatch):
  """Runs the program; its models are compiled once."""

  def from_config(config):
    model = loaded
    if config.condition.kind == "mask":
      model = loaded.for_task("inpaint")
    same = config.sampler == model.config.sampler
    return model if same else Lumiere(config, model._params, model.info)

  monkeypatch.setattr(Lumiere, "from_config", from_config)

  def program(task, out, *options):
    flags = [f"--weights={weights}", "--prompt=a cat", f"--task={task}"]
    sample.main([*flags, f"--out={out}", "--raw", *options])
    clip = np.load(out / "a-cat-0.npy")
    return clip, json.loads((out / "a-cat-0.json").read_text())

  return program


@pytest.fixture
def options(tmp_path):
  """The flags of every source."""
  rng = np.random.default_rng(0)
  paths = {k: tmp_path / f"{k}.png" for k in ("image", "last_image")}
  for path in paths.values():
    media.write_png(path, rng.integers(0, 256, (8, 8, 3), np.uint8))
  paths["video"] = tmp_path / "video.mp4"
  frames = rng.integers(0, 256, (8, 16, 16, 3), np.uint8)
  media.write_mp4(paths["video"], frames, 16)
  values = paths | {"frames_given": 3}

  def flags(task):
    side = 16 if "video" in WANTED[task] else 8
    box = f"box:0,0,{side // 2},{side}"
    boxes = {"mask": box, "keep": box}
    return [f"--{k}={(values | boxes)[k]}" for k in WANTED[task]]

  return flags


@pytest.mark.parametrize("task", WANTED)
def test_a_task_makes_a_clip_and_keeps_what_is_given(
  task, run, options, tmp_path
):
  clip, sidecar = run(task, tmp_path / "out", *options(task))
  assert clip.shape == (8, 8, 8, 3) and clip.dtype == np.uint8
  assert sidecar["task"] == task
  assert ("seam" in sidecar) == TASKS[task].masked
  image = tmp_path / "image.png"
  frame = media.read_image(image).pixels
  size = media.Size(8, 8)
  video = media.read_video(tmp_path / "video.mp4", fps=16, size=size).clip
  if "image" in WANTED[task]:
    np.testing.assert_array_equal(clip[0], frame)
  if task == "first_last":
    last = media.read_image(tmp_path / "last_image.png").pixels
    np.testing.assert_array_equal(clip[-1], last)
  if task == "inpaint":
    np.testing.assert_array_equal(clip[:, :, 4:], video[:, :, 4:])
  if task == "outpaint":
    np.testing.assert_array_equal(clip[:, :, :4], video[:, :, :4])
  if task == "cinemagraph":
    still = np.broadcast_to(frame[:, 4:], clip[:, :, 4:].shape)
    np.testing.assert_array_equal(clip[:, :, 4:], still)
  if task == "extend":
    np.testing.assert_array_equal(clip[:3], video[:3])
  assert np.abs(clip[1].astype(int) - clip[-1]).max() > 0


def test_replay_of_a_task_wants_the_same_files(run, options, tmp_path):
  out = tmp_path / "out"
  first, _ = run("image_to_video", out, *options("image_to_video"))
  sidecar = out / "a-cat-0.json"
  sample.main([f"--replay={sidecar}", f"--out={tmp_path / 'again'}"])
  again = np.load(tmp_path / "again" / "a-cat-0.npy")
  np.testing.assert_array_equal(again, first)
  media.write_png(tmp_path / "new.png", first[3])
  (tmp_path / "new.png").replace(tmp_path / "image.png")
  with pytest.raises(UserError, match=r"image\.png' is not what it was"):
    sample.main([f"--replay={sidecar}", f"--out={out}"])
  saved = json.loads(sidecar.read_text())
  saved["file_hashes"]["mask"] = "0" * 64
  sidecar.write_text(json.dumps(saved))
  with pytest.raises(UserError, match="is not what it was"):
    sample.main([f"--replay={sidecar}", f"--out={out}"])


def test_replay_takes_no_other_box(run, options, tmp_path):
  out = tmp_path / "out"
  run("inpaint", out, *options("inpaint"))
  again = [f"--replay={out / 'a-cat-0.json'}", f"--out={tmp_path / 'again'}"]
  with pytest.raises(UserError, match="was made with 'box:0,0,8,16'"):
    sample.main([*again, "--mask=box:0,0,4,16"])
  sample.main([*again, "--mask=box:0,0,8,16"])


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("sample_id", -1),
    ("sample_id", True),
    ("seed", 1.5),
    ("seed", -1),
    ("negative_prompt", None),
    ("task", ["a"]),
    ("task", "fly"),
    ("prompt", " "),
    ("config", []),
    ("raw", 1),
    ("file_hashes", [1, 2]),
    ("weights_fingerprint", 5),
    ("style_sweep", True),
    ("sources", {"fit": "zoom"}),
    ("sources", {"mask": "box:0,0,8,16", "keep": "box:0,0,8,16"}),
    ("sources", [1]),
  ],
)
def test_a_sidecar_that_cannot_be_right_is_refused_in_one_line(
  run, options, tmp_path, field, value
):
  saved = tmp_path / "out" / "a-cat-0.json"
  run("inpaint", saved.parent, *options("inpaint"))
  told = json.loads(saved.read_text())
  told[field] = {**told[field], **value} if type(value) is dict else value
  wrong = tmp_path / "wrong.json"
  for text in (json.dumps(told), json.dumps([told])):
    wrong.write_text(text)
    with pytest.raises(UserError) as error:
      sample.main([f"--replay={wrong}", f"--out={tmp_path / 'again'}"])
    assert "\n" not in str(error.value)
    assert not (tmp_path / "again").exists()


def test_what_is_wrong_with_a_mask_names_it(weights, tmp_path, options):
  video = next(f for f in options("inpaint") if f.startswith("--video"))
  black = np.zeros((16, 16, 3), np.uint8)
  media.write_png(tmp_path / "black.png", black)
  flags = [f"--weights={weights}", "--prompt=a", "--task=inpaint", video]
  for mask, message in (
    (f"--mask={tmp_path / 'black.png'}", r"--mask=.*black\.png: .*everything"),
    (f"--keep={tmp_path / 'black.png'}", r"--keep=.*black\.png: .*nothing is"),
  ):
    with pytest.raises(UserError, match=message):
      sample.main([*flags, mask, f"--out={tmp_path / 'out'}"])


def test_a_strength_of_less_than_a_step_is_told(run, options, tmp_path, capsys):
  flags = options("video_to_video")
  run("video_to_video", tmp_path / "out", *flags, "--strength=0.01")
  assert "the video stays as it is" in capsys.readouterr().err


def test_replay_takes_files_that_lie_elsewhere(run, options, tmp_path):
  out = tmp_path / "out"
  first, _ = run("image_to_video", out, *options("image_to_video"))
  (tmp_path / "image.png").rename(tmp_path / "moved.png")
  again = [f"--replay={out / 'a-cat-0.json'}", f"--out={tmp_path / 'again'}"]
  with pytest.raises(UserError, match="no such image file"):
    sample.main(again)
  sample.main([*again, f"--image={tmp_path / 'moved.png'}"])
  np.testing.assert_array_equal(
    np.load(tmp_path / "again" / "a-cat-0.npy"), first
  )
  with pytest.raises(UserError, match="--video: the clip to replay was made w"):
    sample.main([*again, "--video=a.mp4"])


def test_strength_decides_how_much_is_kept(run, options, tmp_path):
  flags = options("video_to_video")
  kept, _ = run("video_to_video", tmp_path / "a", *flags, "--strength=0")
  size = media.Size(8, 8)
  video = media.read_video(tmp_path / "video.mp4", fps=16, size=size).clip
  np.testing.assert_array_equal(kept, video)
  full, _ = run("video_to_video", tmp_path / "b", *flags, "--strength=1")
  plain, _ = run("text_to_video", tmp_path / "c")
  np.testing.assert_array_equal(full, plain)


@pytest.mark.parametrize(
  ("task", "args", "message"),
  [
    ("image_to_video", [], "needs --image"),
    ("image_to_video", ["--image=no.png"], "no such image file: 'no.png'"),
    ("image_to_video", ["--image="], "no such image file: ''"),
    ("text_to_video", ["--style_alpha=0.5"], "--style_alpha needs --style"),
    ("text_to_video", ["--style_sweep"], "--style_sweep needs --style"),
    (
      "text_to_video",
      ["--style=s", "--style_sweep", "--style_alpha=1"],
      "goes through all alphas",
    ),
    ("text_to_video", ["--fit=crop"], "no use for --fit"),
    ("text_to_video", ["--image=no.png"], "takes a prompt alone"),
    ("extend", ["--video=no.mp4", "--frames_given=9"], "no such video file"),
    ("inpaint", ["--video=a", "--mask=b", "--keep=c"], "say the same"),
    ("video_to_video", ["--video=a", "--fit=zoom"], "unknown --fit='zoom'"),
  ],
)
def test_mistakes_are_one_line_and_write_nothing(
  weights, tmp_path, task, args, message
):
  out = tmp_path / "out"
  flags = [f"--weights={weights}", "--prompt=a", f"--task={task}"]
  with pytest.raises(UserError, match=message) as error:
    sample.main([*flags, f"--out={out}", *args])
  assert "\n" not in str(error.value)
  assert not out.exists()


def test_weights_that_see_nothing_say_so(weights, tmp_path):
  cfg = from_dict(BASE)
  folder.save(tmp_path / "w", nets.randomised(cfg.model), to_dict(cfg), "l")
  media.write_png(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
  with pytest.raises(UserError, match="needs weights that see what is given"):
    sample.main(
      [
        f"--weights={tmp_path / 'w'}",
        "--task=image_to_video",
        "--prompt=a",
        f"--image={tmp_path / 'a.png'}",
      ]
    )
  model = Lumiere.load(str(tmp_path / "w"))
  with pytest.raises(UserError, match="needs weights that see what is given"):
    model.generate(["a"], task="extend")


def test_conditional_weights_are_those_named_for_the_weights(weights, options):
  flags = [f"--weights={weights}", "--prompt=a", "--task=image_to_video"]
  flags += options("image_to_video")

  def chosen(*more):
    parsed = cli.parse(job.parser(""), [*flags, *more])
    return job.job_from_flags(*parsed).config.weights

  assert chosen() == str(weights.parent / "cond")
  # What the demo's config names is for the demo's weights.
  assert chosen("--config=configs/demo.py") == str(weights.parent / "cond")
  with pytest.raises(UserError, match="no weights in 'nowhere'"):
    chosen("--config.conditional=nowhere")


def test_styles_draw_clips_towards_them(run, loaded, weights, tmp_path):
  style = nets.randomised(loaded.config.model, seed=9)
  folder.save(tmp_path / "s", style, to_dict(loaded.config), "licence")
  plain, _ = run("text_to_video", tmp_path / "plain")
  path = f"--style={tmp_path / 's'}"
  swept, sidecar = run("text_to_video", tmp_path / "a", path, "--style_sweep")
  assert swept.shape == (8, 8, 5 * 8, 3) and sidecar["style_sweep"]
  np.testing.assert_array_equal(swept[:, :, :8], plain)
  drawn = loaded.with_style(str(tmp_path / "s"), 1.0).generate(["a cat"])[0]
  np.testing.assert_array_equal(swept[:, :, -8:], drawn)
  assert np.abs(drawn.astype(int) - plain).mean() > 1


def test_what_is_chosen_for_a_model_holds_for_all_tasks(weights):
  config = from_dict(weights_config(str(weights)))
  sampler = dataclasses.replace(config.sampler, steps=2, guidance=1.0)
  model = Lumiere.from_config(dataclasses.replace(config, sampler=sampler))
  assert model.for_task("extend").config.sampler == sampler


@pytest.mark.parametrize(
  ("material", "message"),
  [
    ({"image": np.zeros((4, 8, 3), np.uint8)}, r"is \(4, 8, 3\), it must be"),
    ({"image": np.zeros((8, 8, 3), np.float32)}, "float32, it must be uint8"),
    ({"image": "cat.png"}, "is str, it must be an array of shape"),
    ("cat.png", "str must be a Material"),
  ],
)
def test_material_of_another_kind_is_refused(loaded, material, message):
  # Types are what is tested: nothing else may look at them first.
  made = material
  if isinstance(material, dict):
    made = object.__new__(Material)
    for name in ("image", "last_image", "video", "region", "frames_given"):
      object.__setattr__(made, name, material.get(name))
    object.__setattr__(made, "strength", None)
  unchecked = inspect.unwrap(prepare)
  with pytest.raises(UserError, match=message):
    unchecked("image_to_video", made, loaded.clip_size)


def test_a_style_draws_what_is_not_given_too(loaded, tmp_path):
  style = nets.randomised(loaded.config.model, seed=9)
  folder.save(tmp_path / "s", style, to_dict(loaded.config), "licence")
  image = np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)

  def make(model):
    options = {"task": "image_to_video", "material": Material(image=image)}
    return model.generate(["a cat"], **options)[0]

  plain = make(loaded)
  for alpha in (0.0, 1.0):
    styled = loaded.with_style(str(tmp_path / "s"), alpha)
    clip = make(styled)
    np.testing.assert_array_equal(clip[0], image)
    assert np.array_equal(clip, plain) == (alpha == 0)
  params = styled.for_task("image_to_video")._params
  for path, leaf in trees.flatten(params).items():
    own = is_temporal(path) or is_input(path)
    source = loaded._conditional._params if own else style
    np.testing.assert_array_equal(leaf, trees.flatten(source)[path], path)


def test_the_library_does_every_task_with_one_program(loaded):
  frames = np.random.default_rng(1).integers(0, 256, (8, 8, 8, 3), np.uint8)
  region = np.zeros((1, 8, 8, 1), np.float32)
  region[:, :4] = 1
  whole = Material(
    image=frames[0],
    last_image=frames[1],
    video=frames,
    region=region,
    frames_given=2,
  )
  for task in MASKED:
    needs = TASKS[task].needs
    material = Material(**{name: getattr(whole, name) for name in needs})
    clips = loaded.generate(["a cat"], task=task, material=material)
    assert clips.shape == (1, 8, 8, 8, 3)
  cond = loaded.for_task("inpaint")
  sizes = {g._advance._cache_size() for g in cond._generators.values()}
  assert sizes == {1}
  assert cond.generate(["a cat"]).shape == (1, 8, 8, 8, 3)
  image = cond.generate(["a cat"], task="text_to_image")
  assert image.shape == (1, 8, 8, 3)


def test_clips_of_a_batch_are_those_made_alone(loaded):
  frames = np.random.default_rng(2).integers(0, 256, (8, 8, 8, 3), np.uint8)
  material = Material(video=frames, frames_given=2)
  two = loaded.generate(
    ["a", "b"], task="extend", material=material, batch_size=2
  )
  one = loaded.generate(["b"], task="extend", material=material)
  assert np.abs(two[1].astype(int) - one[0]).max() <= 1
