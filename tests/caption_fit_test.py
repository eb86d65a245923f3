# SPDX-License-Identifier: Apache-2.0
"""Scores of clips by captions, beside transformers' CLIP on the same files."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from lumiere_jax import caption_fit, import_weights, media, score
from lumiere_jax.caption_fit import CaptionFit, clip_score, frame_consistency
from lumiere_jax.errors import UserError
from lumiere_jax.weights import folder
from tests.features import parity_test as nets

CAPTIONS = ("the cat, it's 3 years old", "A Dog!", "über  das Meer\n", "🙂")
LONG = "the sea and the sky and the sun"
TOKENS = 18
SIZE = 32


def tokenizer_of(path):
  """A CLIP's tokenizer of letters and few words, as transformers has it."""
  transformers = pytest.importorskip("transformers")
  letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  merges = ["t h", "th e</w>", "c a", "ca t</w>", "d o", "do g</w>"]
  words = [
    *letters,
    *(letter + "</w>" for letter in letters),
    *(merge.replace(" ", "") for merge in merges),
    "<|startoftext|>",
    "<|endoftext|>",
  ]
  path.mkdir()
  (path / "vocab.json").write_text(
    json.dumps({word: index for index, word in enumerate(words)})
  )
  (path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
  (path / "tokenizer_config.json").write_text(
    json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS})
  )
  return transformers.CLIPTokenizerFast.from_pretrained(path), len(words)


def model_of(vocabulary, end, **sizes):
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  tower = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
  }
  config = transformers.CLIPConfig(
    projection_dim=24,
    vision_config={**tower, "image_size": SIZE, "patch_size": 8, **sizes},
    text_config={
      **tower,
      "vocab_size": vocabulary,
      "max_position_embeddings": TOKENS,
      "bos_token_id": vocabulary - 2,
      "eos_token_id": end,
    },
  )
  torch.manual_seed(0)
  network = transformers.CLIPModel(config)
  nets.state(torch, network)
  return network


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
  """Folder of a CLIP as transformers saves it, its model and its tokenizer."""
  path = tmp_path_factory.mktemp("clip")
  tokenizer, vocabulary = tokenizer_of(path / "words")
  # 2 is what the files of OpenAI's say.
  network = model_of(vocabulary, 2)
  network.save_pretrained(path / "theirs")
  tokenizer.save_pretrained(path / "theirs")
  return path / "theirs", network, tokenizer


def imported(path):
  source, out = path / "theirs", path / "ours"
  flags = [f"--src={source}", f"--out={out}", "--skip_parity"]
  import_weights.main(["--from=hf-clip", *flags])
  return out


@pytest.fixture(scope="module")
def ours(theirs):
  return imported(theirs[0].parent)


@pytest.fixture(scope="module")
def fit(ours):
  return CaptionFit.load(str(ours))


def clip_of(frames, height, width):
  """Waves and noise in colours, so that whatever is resized matters."""
  rng = np.random.default_rng(0)
  t, y, x = np.mgrid[:frames, :height, :width] / 7
  waves = np.stack([np.sin(x + y), np.cos(y - t), np.sin(x * y + t)], -1)
  levels = 128 + 100 * waves + 30 * rng.normal(size=waves.shape)
  return np.clip(levels, 0, 255).astype(np.uint8)


def processed(clip):
  transformers = pytest.importorskip("transformers")
  processor = transformers.CLIPImageProcessorPil(
    size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}
  )
  return processor(list(clip), return_tensors="pt")["pixel_values"]


@pytest.mark.parametrize(
  "size", [(48, 80), (81, 50), (32, 32), (20, 25), (33, 70), (240, 426)]
)
def test_frames_are_prepared_as_by_the_image_processor(size):
  """PIL computes in whole numbers: now and then a level is the next one."""
  clip = clip_of(2, *size)
  found = np.asarray(caption_fit.pixels(jnp.asarray(clip), SIZE))
  wanted = np.moveaxis(processed(clip).numpy(), 1, -1)
  assert found.shape == wanted.shape
  levels = (found - wanted) * np.array(caption_fit.STD) * 255
  assert np.abs(levels).max() < 1.01
  assert (np.abs(levels) > 0.01).mean() < 1e-3


def caption_score(fit, clip, caption):
  return clip_score(fit.frames(clip), fit.caption(caption))


def test_scores_are_those_of_transformers(theirs, fit):
  import torch

  _, network, tokenizer = theirs
  clip = clip_of(20, 48, 80)
  given = tokenizer(
    list(CAPTIONS), padding=True, truncation=True, return_tensors="pt"
  )
  with torch.no_grad():
    out = network(**given, pixel_values=processed(clip))
  seen, told = out.image_embeds.numpy(), out.text_embeds.numpy()
  np.testing.assert_allclose(fit.frames(clip), seen, atol=1e-3)
  signs = set()
  for caption, embedding in zip(CAPTIONS, told, strict=True):
    np.testing.assert_allclose(fit.caption(caption), embedding, atol=1e-5)
    cosines = seen @ embedding
    signs |= set(np.sign(cosines))
    found = caption_score(fit, clip, caption)
    wanted = 100 * np.maximum(cosines, 0).mean()
    assert found == pytest.approx(wanted, abs=0.05)
    wanted = 100 * (seen[1:] * seen[:-1]).sum(axis=1).mean()
    found = frame_consistency(fit.frames(clip))
    assert found == pytest.approx(wanted, abs=0.05)
  assert signs == {-1, 1}  # So that what is below 0 was looked at.


def test_a_still_clip_is_consistent(fit):
  still = np.repeat(clip_of(1, 40, 40), 3, axis=0)
  assert frame_consistency(fit.frames(still)) == pytest.approx(100)


def test_long_captions_lose_their_end(theirs, fit):
  import torch

  _, network, tokenizer = theirs
  given = tokenizer([LONG], truncation=True, return_tensors="pt")
  assert given["input_ids"].shape == (1, TOKENS)
  with torch.no_grad():
    wanted = network.get_text_features(**given)
  wanted = getattr(wanted, "pooler_output", wanted)[0].numpy()
  found = fit.caption(LONG)
  np.testing.assert_allclose(found, wanted / np.linalg.norm(wanted), atol=1e-5)
  np.testing.assert_array_equal(fit.caption(LONG + " and more"), found)
  assert fit.is_cut(LONG)
  assert not fit.is_cut("the cat")


def test_what_a_protocol_card_needs(fit, ours):
  assert fit.network == "clip"
  assert fit.fingerprint == folder.load_info(ours).fingerprint
  assert "shorter side bicubic to 32" in fit.resize
  assert fit.dimensions == 24


def test_parity_is_measured(theirs, ours):
  line = import_weights.parity_line("hf-clip", theirs[0], ours)
  assert line.startswith("parity: largest error ")
  assert float(line.split()[3]) < 1e-4


def test_clips_and_captions_that_cannot_be_scored(fit):
  clip = clip_of(2, 40, 40)
  with pytest.raises(UserError, match="1 frames have no neighbours"):
    frame_consistency(fit.frames(clip[:1]))
  with pytest.raises(UserError, match="an empty caption"):
    fit.caption(" ")


def test_what_is_no_clip_is_refused(tmp_path, theirs, ours):
  with pytest.raises(UserError, match=r"cannot read .*nowhere"):
    CaptionFit.load(str(tmp_path / "nowhere"))
  with pytest.raises(UserError, match=r"no feature network .* none of clip"):
    CaptionFit.load("lumiere_jax/assets/demo")
  params, config, _ = folder.load(ours)
  folder.save(tmp_path / "wordless", params, config, "none")
  with pytest.raises(UserError, match=r"cannot read tokenizer .*json"):
    CaptionFit.load(str(tmp_path / "wordless"))


def test_another_tokenizer_is_refused(tmp_path, theirs):
  """Of fewer tokens than the network has, so that no caption would end."""
  _, _, tokenizer = theirs
  model_of(len(tokenizer) + 3, 2).save_pretrained(tmp_path / "theirs")
  tokenizer.save_pretrained(tmp_path / "theirs")
  out = imported(tmp_path)
  with pytest.raises(UserError, match="is not this CLIP's"):
    CaptionFit.load(str(out))


def test_a_clip_that_ends_captions_elsewhere_is_refused(tmp_path, theirs):
  _, _, tokenizer = theirs
  network = model_of(len(tokenizer) + 3, len(tokenizer) - 1)
  network.save_pretrained(tmp_path / "theirs")
  tokenizer.save_pretrained(tmp_path / "theirs")
  with pytest.raises(UserError, match=r"eos_token_id=.* must be the last"):
    imported(tmp_path)
  assert not (tmp_path / "ours").exists()


def test_a_clip_without_a_tokenizer_is_refused(tmp_path, theirs):
  theirs[1].save_pretrained(tmp_path / "theirs")
  with pytest.raises(UserError, match="no tokenizer in"):
    imported(tmp_path)
  assert not (tmp_path / "ours").exists()


@pytest.mark.full
def test_a_clip_of_whole_size(tmp_path, theirs):
  """ViT-B/32 by its sizes, but for the words."""
  transformers = pytest.importorskip("transformers")
  _, _, tokenizer = theirs
  text = {"vocab_size": len(tokenizer), "eos_token_id": 2}
  network = transformers.CLIPModel(transformers.CLIPConfig(text_config=text))
  network.save_pretrained(tmp_path / "theirs")
  tokenizer.save_pretrained(tmp_path / "theirs")
  out = imported(tmp_path)
  line = import_weights.parity_line("hf-clip", tmp_path / "theirs", out)
  assert float(line.split()[3]) < 1e-4
  fit = CaptionFit.load(str(out))
  assert 0 <= caption_score(fit, clip_of(16, 240, 320), "the cat") <= 100


def test_score_tells_both_of_folders(ours, fit, tmp_path):
  """Of clips with captions, beside the scores of others' captions."""
  told = {"a": "the cat", "b": LONG, "c": LONG}
  clips = {name: clip_of(4 + i, 40, 40)[i:] for i, name in enumerate(told)}
  for name, caption in told.items():
    media.write_webp(tmp_path / "made" / f"{name}.webp", clips[name], 16)
    (tmp_path / "made" / f"{name}.txt").write_text(caption)
  media.write_webp(tmp_path / "real" / "d.webp", clips["a"], 16)
  out = tmp_path / "scores.json"
  score.main(
    [
      *(f"--generated={tmp_path / 'made'}", f"--network={ours}"),
      *(f"--real={tmp_path / 'real'}", f"--out={out}"),
      *("--frames=4", "--fps=16", "--rounds=20"),
    ]
  )
  rows = json.loads(out.read_text())["rows"]
  found = {row["card"]["score"]: row for row in rows["generated"]}

  def mean(pairs):
    scores = [caption_score(fit, clips[name], words) for name, words in pairs]
    return pytest.approx(np.mean(scores), rel=1e-4)

  assert found["CLIP score"]["value"] == mean(told.items())
  consistent = [frame_consistency(fit.frames(clip)) for clip in clips.values()]
  assert found["CLIP consistency"]["value"] == pytest.approx(
    np.mean(consistent), rel=1e-4
  )
  assert found["CLIP captions cut"]["value"] == pytest.approx(2 / 3)
  floor = found["CLIP score, others'"]
  swapped = [("b", "the cat"), ("c", "the cat")]
  assert floor["value"] == mean(swapped)
  card = floor["card"]
  assert (card["network"], card["generated"]) == ("clip", 2)
  assert card["network_sha256"] == fit.fingerprint
  assert "CLIP score" not in {r["card"]["score"] for r in rows["real, all"]}
