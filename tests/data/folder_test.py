# SPDX-License-Identifier: Apache-2.0
"""Folders of videos and images, whatever way their captions lie."""

import pickle

import pytest

from lumiere_jax.config import SourceConfig
from lumiere_jax.data.folder import open_folder
from lumiere_jax.errors import UserError
from lumiere_jax.media import Unusable


def _fill(folder, *names):
  for name in names:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(name)
  return SourceConfig(kind="folder", data_dir=str(folder))


def _items(source):
  return {source.name(i): source[i].caption for i in range(len(source))}


def test_captions_beside_the_videos(tmp_path):
  cfg = _fill(
    tmp_path, "a.mp4", "b/c.MKV", "b/i.png", ".hidden/d.mp4", "b/.e.mp4"
  )
  (tmp_path / "a.txt").write_text("a  cat\nruns\n")
  (tmp_path / "b" / "c.txt").write_text("a dög", encoding="utf-8")
  source = open_folder(cfg)
  assert _items(source) == {"a.mp4": "a cat runs", "b/c.MKV": "a dög"}
  assert source.captions() == ["a cat runs", "a dög"]
  assert source[1].media == str(tmp_path / "b" / "c.MKV")
  again = pickle.loads(pickle.dumps(source))
  assert _items(again) == _items(source)


LISTS = {
  "captions.csv": "file,caption\na.mp4,one\n",
  "any.csv": '\ufeffpath,text,more\na.mp4,"one",3\n',
  "list.jsonl": '{"video": "a.mp4", "caption": "one"}\n\n',
  "LIST.CSV": "file,caption,note\na.mp4,one\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_captions_in_a_list(tmp_path, name):
  cfg = _fill(tmp_path, "a.mp4", "b.mp4")
  (tmp_path / name).write_text(LISTS[name], encoding="utf-8")
  assert _items(open_folder(cfg)) == {"a.mp4": "one"}


def test_a_video_may_have_several_captions(tmp_path):
  cfg = _fill(tmp_path, "a.mp4")
  (tmp_path / "l.csv").write_text("file,caption\na.mp4,two\na.mp4,one\n")
  assert _items(open_folder(cfg)) == {"a.mp4": "one", "a.mp4#2": "two"}


def test_a_list_may_have_splits(tmp_path):
  _fill(tmp_path, "a.mp4", "b.mp4")
  (tmp_path / "l.csv").write_text(
    "file,caption,split\na.mp4,one,train\nb.mp4,two,test\n"
  )

  def items(split):
    return _items(
      open_folder(
        SourceConfig(kind="folder", data_dir=str(tmp_path), split=split)
      )
    )

  assert items("train") == {"a.mp4": "one"}
  assert items("test") == {"b.mp4": "two"}
  with pytest.raises(UserError, match=r"did you mean 'test'\?\); choices: te"):
    items("tess")


@pytest.mark.parametrize(
  ("media", "names"),
  [("video", ["a.mp4"]), ("image", ["i.jpg"]), ("both", ["a.mp4", "i.jpg"])],
)
def test_videos_images_or_both(tmp_path, media, names):
  _fill(tmp_path, "a.mp4", "i.jpg", "a.txt", "i.txt", "x.pdf")
  cfg = SourceConfig(kind="folder", data_dir=str(tmp_path), media=media)
  source = open_folder(cfg)
  assert list(_items(source)) == names
  assert [source[i].still for i in range(len(source))] == [
    name == "i.jpg" for name in names
  ]


def test_what_has_no_caption_is_broken(tmp_path):
  source = open_folder(_fill(tmp_path, "a.mp4", "b.mp4", "a.txt"))
  assert source[0].caption
  with pytest.raises(Unusable, match="no caption"):
    source[1]


def test_the_fingerprint_is_of_names_sizes_and_captions(tmp_path):
  cfg = _fill(tmp_path, "a.mp4", "a.txt", "b.mp4", "b.txt")
  first = open_folder(cfg).fingerprint()
  assert first == open_folder(cfg).fingerprint()
  (tmp_path / "a.mp4").write_text("longer than it was")
  second = open_folder(cfg).fingerprint()
  (tmp_path / "b.mp4").rename(tmp_path / "c.mp4")
  (tmp_path / "b.txt").rename(tmp_path / "c.txt")
  third = open_folder(cfg).fingerprint()
  (tmp_path / "l.csv").write_text("file,caption\na.mp4,x\n")
  fourth = open_folder(cfg).fingerprint()
  (tmp_path / "l.csv").write_text("file,caption\na.mp4,y\n")
  prints = {first, second, third, fourth, open_folder(cfg).fingerprint()}
  assert len(prints) == 5


def test_another_caption_of_the_same_length_is_another_item(tmp_path):
  cfg = _fill(tmp_path, "a.mp4", "a.txt")
  (tmp_path / "a.txt").write_text("a cat")
  before = open_folder(cfg).stamp(0), open_folder(cfg).fingerprint()
  (tmp_path / "a.txt").write_text("a dog")
  after = open_folder(cfg).stamp(0), open_folder(cfg).fingerprint()
  assert before[0] != after[0] and before[1] != after[1]


DAMAGED = {
  # Read as they stand, these would train on other captions than were meant.
  "comma.csv": (
    "file,caption\na.mp4,a cat, black\n",
    "the entry of line 2 has more values than there are columns",
  ),
  "quote.csv": (
    'file,caption\na.mp4,"a cat\nb.mp4,a dog\n',
    "the entry of line 2: unexpected end of data",
  ),
  "several.jsonl": (
    '{"file": "a.mp4", "caption": ["a cat", "black"]}\n',
    r"entry 1 has caption=\['a cat', 'black'\], which is no text",
  ),
  "cut.jsonl": (
    '{"file": "a.mp4", "caption": "x"}\n\n{"file": "b.mp4", "cap',
    "line 3, character 19: Unterminated string",
  ),
  "split.csv": (
    "file,caption,split\na.mp4,a cat,test\nb.mp4,a dog\n",
    "nothing of data split 'train'; choices: test$",
  ),
  "latin.csv": ("file,caption\na.mp4,caf\udce9\n", "cannot read .*decode"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_list_is_one_clear_line(tmp_path, name):
  text, message = DAMAGED[name]
  cfg = _fill(tmp_path, "a.mp4", "b.mp4")
  (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
  with pytest.raises(UserError, match=message) as caught:
    open_folder(cfg)
  assert "\n" not in str(caught.value)


def test_a_number_is_a_caption(tmp_path):
  cfg = _fill(tmp_path, "a.mp4")
  (tmp_path / "l.jsonl").write_text('{"file": "a.mp4", "caption": 0}\n')
  assert _items(open_folder(cfg)) == {"a.mp4": "0"}


def test_the_licence_is_told_or_that_there_is_none(tmp_path):
  cfg = _fill(tmp_path / "clips", "a.mp4", "a.txt")
  assert "'clips'; nothing is said" in open_folder(cfg).attribution()
  (tmp_path / "clips" / "LICENSE").write_text("CC BY")
  assert open_folder(cfg).attribution() == "CC BY"


def test_mistakes_are_one_clear_line(tmp_path):
  def fails(match, **fields):
    fields = {"kind": "folder", "data_dir": str(tmp_path)} | fields
    with pytest.raises(UserError, match=match) as caught:
      open_folder(SourceConfig(**fields))
    assert "\n" not in str(caught.value)

  fails("is no folder", data_dir=str(tmp_path / "absent"))
  fails("holds no videos$")
  _fill(tmp_path, "i.png")
  fails("holds no videos, but 1 files that another data.media takes")
  _fill(tmp_path, "a.mp4")
  fails(r"holds 1 videos and no captions: a CSV")
  (tmp_path / "captions.csv").write_text("a,b\n1,2\n")
  fails(r"entry 1 has none of file, path, .*; it has 'a', 'b'")
  fails(r"'caption.csv': no such .*mean 'captions.csv'", captions="caption.csv")
  (tmp_path / "captions.csv").write_text("file,caption\n")
  fails("has nothing of data split 'train': it is empty")
  (tmp_path / "captions.csv").write_text("file,caption\n,one\n")
  fails("entry 1 names no file")
  (tmp_path / "l.jsonl").write_text("{")
  fails("several lists; data.captions must name one of captions.csv, l.json")
  fails("cannot read", captions="l.jsonl")
  (tmp_path / "l.jsonl").write_text("3\n")
  fails("no object", captions="l.jsonl")
