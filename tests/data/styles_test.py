# SPDX-License-Identifier: Apache-2.0
"""Sprite packs of the same objects in other drawing styles."""

import io
import json
import tarfile

import numpy as np
import pytest

from lumiere_jax.data import pack, styles
from lumiere_jax.errors import UserError

RED = '<rect width="20" height="36" x="8" fill="#f00"/>'


def tarball(path, files):
  with tarfile.open(path, "w:gz") as archive:
    for name, text in files.items():
      member = tarfile.TarInfo(f"package/{name}")
      member.size = len(text.encode())
      archive.addfile(member, io.BytesIO(text.encode()))


@pytest.fixture
def codes(sprites):
  return [info.code for info in pack.read_index(sprites)]


@pytest.fixture
def npm(tmp_path, codes):
  """Packages that draw every object as a red bar."""
  svg = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 36 36">{RED}</svg>'
  )
  files = {f"dist/svg/{code}.svg": svg for code in codes}
  tarball(tmp_path / "discordapp-twemoji-1.0.0.tgz", files)
  names = {code: f"name-{i}" for i, code in enumerate(codes)}
  icons = {
    "width": 36,
    "height": 36,
    "icons": {name: {"body": RED} for name in names.values()},
  }
  files = {"icons.json": json.dumps(icons), "chars.json": json.dumps(names)}
  tarball(tmp_path / "iconify-json-noto-1.0.0.tgz", files)
  return tmp_path


@pytest.mark.parametrize("style", ["twemoji", "noto"])
def test_objects_keep_their_names_and_get_new_drawings(
  style, npm, sprites, tmp_path
):
  pytest.importorskip("resvg_py")
  out = tmp_path / "out"
  infos = pack.read_index(sprites)
  assert styles.make_pack(style, npm, sprites, out) == len(infos)
  size = pack.read_sprite(sprites, infos[0]).frames.shape[1]
  for old, new in zip(infos, pack.read_index(out), strict=True):
    assert (new.code, new.names) == (old.code, old.names)
    assert new.licence == styles.STYLES[style].licence
    frames = pack.read_sprite(out, new).frames
    assert frames.shape == (1, size, size, 4)
    middle = frames[0, size // 2, size // 2]
    np.testing.assert_array_equal(middle, [255, 0, 0, 255])
    assert frames[0, size // 2, 0, 3] == 0  # Beside the bar.
  credit = (out / pack.ATTRIBUTION).read_text()
  assert styles.STYLES[style].licence in credit


def test_what_is_missing_is_named(npm, sprites, tmp_path, codes):
  with pytest.raises(UserError, match="no iconify-json-fluent-emoji-high"):
    styles.make_pack("mono", npm, sprites, tmp_path / "out")
  tarball(npm / "discordapp-twemoji-2.0.0.tgz", {"dist/svg/1.svg": "<svg/>"})
  with pytest.raises(UserError, match=r"2\.0\.0\.tgz has no drawing of"):
    styles.make_pack("twemoji", npm, sprites, tmp_path / "out")
