# SPDX-License-Identifier: Apache-2.0
"""From two folders of clips to a preference, with a browser between."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from lumiere_jax import media, study
from lumiere_jax.errors import UserError
from lumiere_jax.survey.page import prompt_of
from tests.survey.browser import Browser, find_browser

NAMES = ("a_panda", "a_fox", "a_whale")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  root = tmp_path_factory.mktemp("clips")
  rng = np.random.default_rng(0)
  for method in ("ours", "theirs"):
    (root / method).mkdir()
    for name in NAMES:
      clip = rng.integers(0, 256, (4, 16, 16, 3), np.uint8)
      media.write_mp4(root / method / f"{name}.mp4", clip, 8)
  (root / "ours" / "a_fox.json").write_text('{"prompt": "a red <fox>"}')
  media.write_mp4(root / "ours" / "alone.mp4", clip, 8)
  return root


def build(folders, out, *flags):
  study.main(
    [
      "build",
      f"--a={folders / 'ours'}",
      f"--b={folders / 'theirs'}",
      f"--out={out}",
      "--raters=3",
      "--checks=1",
      *flags,
    ]
  )
  return json.loads(Path(f"{out}.key.json").read_text())


def answers(key, page, rater, choose):
  """A rater's file, chosen by `choose(item of the key)`: is it the first?"""
  told = {}
  lists = shown(page)["lists"]
  for item in lists[rater - 1]:
    known = key["items"][item["id"]]
    first = choose(known)
    side = "left" if first != known["swapped"] else "right"
    told[item["id"]] = dict.fromkeys(key["questions"], side)
  return {"study": key["study"], "rater": rater, "answers": told}


def shown(page):
  """What the page has in it."""
  text = (page / "index.html").read_text(encoding="utf-8")
  start = text.index('type="application/json">') + len(
    'type="application/json">'
  )
  return json.loads(text[start : text.index("</script>", start)])


def test_the_page_is_blind_and_complete(folders, tmp_path):
  page = tmp_path / "page"
  key = build(folders, page)
  text = (page / "index.html").read_text(encoding="utf-8")
  for word in ("ours", "theirs", "vigilance", "swapped", "mp4v", "http"):
    assert word not in text.replace(key["study"], ""), word
  found = shown(page)
  assert len(found["lists"]) == 3
  files = {p.name for p in (page / "clips").iterdir()}
  used = {
    i[s] for rows in found["lists"] for i in rows for s in ("left", "right")
  }
  assert used <= files and len(files) <= 2 * len(NAMES) * 2
  prompts = {item["prompt"] for rows in found["lists"] for item in rows}
  assert prompts == {"a panda", "a red <fox>", "a whale"}
  assert "<fox>" not in text  # It would end the script if it were "</script>".
  # Every item is known to the key, sides are those of the folders.
  for rows in found["lists"]:
    for item in rows:
      assert item["id"] in key["items"]


def test_names_do_not_follow_from_files_and_seed(folders, tmp_path):
  one = build(folders, tmp_path / "one", "--seed=1")
  other = build(folders, tmp_path / "two", "--seed=1")
  assert one["salt"] != other["salt"]
  files = [
    {p.name for p in (tmp_path / n / "clips").iterdir()} for n in ("one", "two")
  ]
  assert not files[0] & files[1]


def test_sides_are_read_back_as_methods(folders, tmp_path, capsys):
  page = tmp_path / "page"
  key = build(folders, page)
  files = []
  for rater in (1, 2, 3):
    told = answers(
      key,
      page,
      rater,
      lambda item: item["vigilance"] or item["name"] != "a_fox",
    )
    files.append(tmp_path / f"{rater}.json")
    files[-1].write_text(json.dumps(told))
  out = tmp_path / "result.json"
  study.main(
    [
      "analyse",
      f"--key={page}.key.json",
      f"--out={out}",
      "--answers",
      *map(str, files),
    ]
  )
  result = json.loads(out.read_text())
  assert result["raters"] == 3 and not result["left_out"]
  for found in result["questions"].values():
    assert found["share"] == pytest.approx(2 / 3)
    assert found["votes"] == 9 and found["prompts"] == 3
  assert "66.7%" in capsys.readouterr().out


def test_raters_who_fail_checks_are_left_out(folders, tmp_path, capsys):
  page = tmp_path / "page"
  key = build(folders, page)
  files = []
  for rater, careless in ((1, True), (2, False)):
    told = answers(
      key, page, rater, lambda item, c=careless: item["vigilance"] != c
    )
    files.append(tmp_path / f"{rater}.json")
    files[-1].write_text(json.dumps(told))
  flags = [f"--key={page}.key.json", "--answers", *map(str, files)]
  study.main(["analyse", *flags])
  assert "1 left out" in capsys.readouterr().out
  with pytest.raises(UserError, match="no votes are left"):
    study.main(["analyse", *flags[:2], str(files[0])])
  study.main(["analyse", *flags, "--most_failed=1"])
  assert "0 left out" in capsys.readouterr().out
  # Who answers none of the checks has not passed them.
  told = answers(key, page, 2, lambda item: True)
  told["answers"] = {
    item: given
    for item, given in told["answers"].items()
    if not key["items"][item]["vigilance"]
  }
  files[1].write_text(json.dumps(told))
  with pytest.raises(UserError, match="no votes are left"):
    study.main(["analyse", *flags])


@pytest.mark.parametrize(
  ("change", "why"),
  [
    ({"study": "other"}, "is of study 'other'"),
    ({"answers": {"x": {"quality": "left"}}}, "no item 'x'"),
    ({"answers": 3}, "answers are no object but 3"),
    ({"answers": {"x": ["left"]}}, r"item 'x' is no object but \['left'\]"),
    (
      {"answers": {"x": {"quality": ["left"]}}},
      r"quality=\['left'\], neither left nor right",
    ),
  ],
)
def test_answers_of_something_else_are_told(folders, tmp_path, change, why):
  page = tmp_path / "page"
  key = build(folders, page)
  told = answers(key, page, 1, lambda item: True) | change
  file = tmp_path / "1.json"
  file.write_text(json.dumps(told))
  with pytest.raises(UserError, match=why):
    study.main(["analyse", f"--key={page}.key.json", "--answers", str(file)])
  with pytest.raises(UserError, match="is no key"):
    study.main(["analyse", f"--key={file}", "--answers", str(file)])


def test_mistakes_are_told_and_leave_nothing(folders, tmp_path):
  ours = f"--a={folders / 'ours'}"
  for flags, why in (
    (["build", ours], "needs --b"),
    (["build", ours, f"--b={tmp_path}", f"--out={tmp_path / 'o'}"], "no clip"),
    (["build", ours, "--b=nowhere", f"--out={tmp_path / 'o'}"], "is no folder"),
    (["analyse"], "needs --key"),
  ):
    with pytest.raises(UserError, match=why):
      study.main(flags)
  with pytest.raises(UserError, match="9 pairs for each rater"):
    build(folders, tmp_path / "o", "--each=9")
  assert not (tmp_path / "o").exists()
  assert not (tmp_path / "o.key.json").exists()


def test_a_damaged_clip_leaves_nothing_behind(folders, tmp_path):
  """So that the same command works once it is mended."""
  clip = folders / "theirs" / "a_whale.mp4"
  whole = clip.read_bytes()
  clip.write_bytes(whole[:100])
  page = tmp_path / "page"
  with pytest.raises(UserError, match="a_whale"):
    build(folders, page)
  assert not page.exists()
  assert not (tmp_path / "page.key.json").exists()
  clip.write_bytes(whole)
  build(folders, page)
  assert {p.name for p in page.iterdir()} == {"index.html", "clips"}
  (tmp_path / "page.key.json").unlink()
  with pytest.raises(UserError, match="is not empty"):
    build(folders, page)


def test_prompts_are_told_beside_clips_or_by_their_names(tmp_path):
  clip = tmp_path / "a rabbit at sunrise-0.mp4"
  assert prompt_of(clip.stem, clip) == "a rabbit at sunrise"
  clip.with_suffix(".txt").write_text("a hare\n")
  assert prompt_of(clip.stem, clip) == "a hare"


def test_a_person_answers_with_the_keyboard(folders, tmp_path):
  program = find_browser()
  if program is None:
    pytest.skip("no browser (Chromium) is installed")
  page = tmp_path / "page"
  key = build(folders, page)
  downloads = tmp_path / "downloads"
  downloads.mkdir()
  with Browser(program, tmp_path / "profile", downloads) as browser:
    browser.open(page / "index.html")
    browser.run("document.getElementById('rater').value = '9'")
    browser.run("document.getElementById('begin').click()")
    problem = "document.getElementById('problem').textContent"
    assert browser.run(problem) == "A number from 1 to 3."
    browser.run("document.getElementById('rater').value = '2'")
    browser.run("document.getElementById('begin').click()")
    playing = "document.querySelector('#{} video').readyState >= 2"
    for side in ("left", "right"):
      browser.until(playing.format(side))
    browser.press("Enter")  # Nothing is answered yet: it stays.
    assert browser.run("place") == 0
    items = shown(page)["lists"][1]
    for number, item in enumerate(items):
      known = key["items"][item["id"]]
      for _ in key["questions"]:
        browser.press("ArrowRight" if known["swapped"] else "ArrowLeft")
      if number == 1:  # Half-way, the page is opened anew.
        browser.open(page / "index.html")
        browser.run("document.getElementById('rater').value = '2'")
        browser.run("document.getElementById('begin').click()")
        assert browser.run("place") == 2
      else:
        browser.press("Enter")
    assert browser.run("document.getElementById('end').hidden") is False
    browser.run("document.getElementById('save').click()")
    file = downloads / f"answers-{key['study']}-2.json"
    end = time.monotonic() + 30
    while not file.exists() and time.monotonic() < end:
      time.sleep(0.1)
    told = json.loads(file.read_text())
  assert set(told["answers"]) == {item["id"] for item in items}
  out = tmp_path / "result.json"
  flags = [f"--key={page}.key.json", "--answers", str(file), f"--out={out}"]
  study.main(["analyse", *flags])
  result = json.loads(out.read_text())
  assert not result["left_out"]
  assert all(q["share"] == 1 for q in result["questions"].values())
