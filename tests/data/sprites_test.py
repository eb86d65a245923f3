# SPDX-License-Identifier: Apache-2.0
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from lumiere_jax.data import pack
from lumiere_jax.data import sprites as maker
from lumiere_jax.data.emoji import DEMO
from lumiere_jax.errors import UserError


def _webp(num_frames: int) -> bytes:
  rng = np.random.default_rng(0)
  frames = np.zeros((num_frames, 24, 24, 4), np.uint8)
  frames[:, 4:20, 4:20] = rng.integers(0, 256, (num_frames, 16, 16, 4))
  frames[:, 4:20, 4:20, 3] = 255
  images = [Image.fromarray(frame) for frame in frames]
  file = io.BytesIO()
  images[0].save(
    file,
    "WEBP",
    save_all=True,
    append_images=images[1:],
    duration=42,
    lossless=True,
    method=0,
  )
  return file.getvalue()


def _tarball(path, files: dict[str, bytes]) -> None:
  with tarfile.open(path, "w:gz") as archive:
    for name, data in files.items():
      member = tarfile.TarInfo(f"package/{name}")
      member.size = len(data)
      archive.addfile(member, io.BytesIO(data))


@pytest.fixture(scope="module")
def npm(tmp_path_factory):
  """Tarballs as npm packs them, with one emoji of every kind."""
  folder = tmp_path_factory.mktemp("npm")
  kinds = {
    "1f42c": ("dolphin", 3, 42),
    "2764-fe0f": ("red heart", 0, 42),
    "1f400": ("rat", 3, 39),  # too short
    "1f550": ("one o'clock", 5, 42),
    "1f44b-1f3fb": ("waving hand: light skin tone", 1, 42),
    "1f468-200d-1f33e": ("man farmer", 1, 42),
    "1f43b-200d-2744-fe0f": ("polar bear", 3, 42),
    "1f405": ("tiger", 3, 42),  # the demo's tiger face is called so
    "1f9ff": (None, 0, 42),  # not in the table of names
  }
  _tarball(
    folder / "lobehub-fluent-emoji-anim-1-1.0.0.tgz",
    {f"assets/{code}.webp": _webp(n) for code, (_, _, n) in kinds.items()},
  )
  table = [
    {"label": label, "hexcode": code.upper(), "group": group, "tags": ["x"]}
    for code, (label, group, _) in kinds.items()
    if label
  ]
  groups = {
    "groups": {
      "0": "smileys",
      "1": "people-body",
      "3": "animals",
      "5": "travel",
    }
  }
  _tarball(
    folder / "emojibase-data-17.0.0.tgz",
    {
      "en/data.json": json.dumps(table).encode(),
      "meta/groups.json": json.dumps(groups).encode(),
    },
  )
  return folder


def test_a_pack_holds_what_is_usable_and_says_where_it_is_from(npm, tmp_path):
  count = maker.make_pack(npm, tmp_path, 16, "all")
  infos = pack.read_index(tmp_path)
  assert count == len(infos) == 3
  assert [i.code for i in infos] == ["1f42c", "1f43b-200d-2744", "2764"]
  dolphin = infos[0]
  assert dolphin.label == "dolphin" and dolphin.names == DEMO["1f42c"]
  assert dolphin.group == "animals" and dolphin.licence == "MIT"
  assert dolphin.source == "@lobehub/fluent-emoji-anim-1-1.0.0"
  sprite = pack.read_sprite(tmp_path, dolphin)
  assert dolphin.frames == round(42 * 0.042 * 16)
  assert sprite.frames.shape == (dolphin.frames, 16, 16, 4)
  assert (sprite.frames[:, 3:-3, 3:-3, 3] == 255).all()


def test_the_demo_selection_wants_all_of_its_emoji(npm, tmp_path):
  with pytest.raises(UserError, match="lacks 1f47b"):
    maker.make_pack(npm, tmp_path, 16, "demo")


def test_the_world_pack_holds_the_objects_and_then_the_reserved(
  npm, tmp_path, monkeypatch
):
  trained = {"2764": ("heart",), "1f42c": ("dolphin", "porpoise")}
  kept = {"1f468-200d-1f33e": ("farmer",)}  # chosen by hand, though a person
  monkeypatch.setitem(
    maker.PACKS, "world", (("world", "reserved"), trained | kept)
  )
  monkeypatch.setitem(pack.SELECTIONS, "world", tuple(trained))
  monkeypatch.setitem(pack.SELECTIONS, "reserved", tuple(kept))
  assert maker.make_pack(npm, tmp_path, 16, "world") == 3
  infos = pack.read_index(tmp_path)
  assert [info.code for info in infos] == [*trained, *kept]
  assert [info.names for info in infos] == list((trained | kept).values())
  assert pack.select(infos, "world") == infos[:2]
  assert pack.select(infos, "reserved") == infos[2:]
  assert pack.select(infos, "all") == infos


def test_a_selection_is_in_its_own_order_and_names_what_lacks():
  codes = reversed(pack.SELECTIONS["world"])
  infos = [
    pack.SpriteInfo(
      code=code,
      label="",
      names=("x",),
      keywords=(),
      group="",
      frames=1,
      licence="",
      source="",
    )
    for code in codes
  ]
  chosen = pack.select(infos, "world")
  assert tuple(info.code for info in chosen) == pack.SELECTIONS["world"]
  with pytest.raises(UserError, match=r"lacks 1f9a6, .* of 'reserved'"):
    pack.select(infos, "reserved")


def test_absent_tarballs_and_packs_say_how_to_get_them(tmp_path):
  with pytest.raises(UserError, match="npm pack"):
    maker.make_pack(tmp_path, tmp_path / "out", 16, "demo")
  with pytest.raises(UserError, match=r"lumiere_jax\.data\.sprites"):
    pack.read_index(tmp_path)


def test_the_fixture_is_a_pack_with_attribution(sprites):
  infos = pack.read_index(sprites)
  assert {info.label for info in infos} == {
    "dolphin",
    "frog",
    "ghost",
    "rocket",
  }
  for info in infos:
    assert info.licence == "MIT" and info.names == DEMO[info.code]
    sprite = pack.read_sprite(sprites, info)
    assert sprite.frames.shape == (info.frames, 64, 64, 4)
  assert (sprites / "ATTRIBUTION.md").is_file()
