# SPDX-License-Identifier: Apache-2.0
"""The documents' commands, their pictures, and the page of their clips."""

import html
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lumiere_jax import cli, job
from lumiere_jax.conditioning.task import TASKS
from tests import scripts

ROOT = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


gallery = scripts.load("docs/gallery.py")
EXAMPLES = gallery.examples()
PAGE = ROOT / "gallery" / "index.html"


def test_every_task_that_makes_clips_of_more_than_text_has_an_example():
  shown = {e.flags.get("task") for e in EXAMPLES}
  wanted = {n for n, task in TASKS.items() if task.needs and task.clip}
  assert shown == wanted | {None}  # None: text to video, in other styles.
  assert sum("style_sweep" in e.flags for e in EXAMPLES) >= 2


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_the_program_takes_the_command(example, monkeypatch):
  monkeypatch.chdir(ROOT)
  plan = job.job_from_flags(*cli.parse(job.parser(""), example.arguments))
  job.job_material(plan)
  assert plan.task == example.flags.get("task", "text_to_video")


def test_every_picture_and_link_of_the_documents_is_there():
  shown = 0
  for document in gallery.DOCUMENTS:
    text = document.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
      assert (document.parent / link).is_file(), link
      shown += 1
  assert shown > len(EXAMPLES)


def test_the_page_shows_the_commands_and_what_they_wrote():
  page = PAGE.read_text(encoding="utf-8")
  commands = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)
  assert list(map(html.unescape, commands)) == [e.command for e in EXAMPLES]
  assert gallery.render(EXAMPLES) == page
  sources = re.findall(r'src="([^"]+)"', page)
  assert len(sources) >= 2 * len(EXAMPLES) - 2  # Styles are given nothing.
  for source in sources:
    assert (PAGE.parent / source).is_file(), source
  assert "http" not in page


def test_the_page_plays_in_a_browser(tmp_path):
  browser = next(filter(None, map(shutil.which, BROWSERS)), None)
  if browser is None:
    pytest.skip("no browser (Chromium) is installed")
  # Root may not use the sandbox, containers have little shared memory.
  flags = ["--no-sandbox"] if os.geteuid() == 0 else []
  flags += ["--headless", "--disable-gpu", "--disable-dev-shm-usage"]
  flags += [f"--user-data-dir={tmp_path}", "--virtual-time-budget=20000"]
  result = subprocess.run(
    [browser, *flags, "--dump-dom", PAGE.as_uri()],
    capture_output=True,
    text=True,
    timeout=120,
  )
  shown = re.search(r'data-shown="(\d+)/(\d+)"', result.stdout)
  assert shown, result.stderr[-2000:]
  media = len(re.findall(r"<(?:video|img) ", PAGE.read_text(encoding="utf-8")))
  assert shown.groups() == (str(media), str(media))
