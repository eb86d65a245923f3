# SPDX-License-Identifier: Apache-2.0
"""Runs the commands of two documents and makes a page of their clips.

python docs/gallery.py

Every command of docs/applications.md and docs/upscaling.md that writes to
gallery/NAME is run as it stands, and gallery/index.html plays what all of them
wrote, with what they were given.
"""

import html
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lumiere_jax.inference.material import FILES

ROOT = Path(__file__).resolve().parent.parent
GALLERY = ROOT / "gallery"
DOCUMENTS = (ROOT / "docs/applications.md", ROOT / "docs/upscaling.md")


@dataclass(frozen=True)
class Example:
  """A command of a document.

  Attributes:
    title: of its section.
    command: as it stands there, without the indent.
    name: of its folder in the gallery.
  """

  title: str
  command: str
  name: str

  @property
  def flags(self) -> dict[str, str]:
    """What follows the program's name, by flag."""
    pairs = (f.partition("=") for f in self.arguments)
    return {name.removeprefix("--"): value for name, _, value in pairs}

  @property
  def arguments(self) -> list[str]:
    """The same as a list for the program."""
    return shlex.split(self.command.replace("\\\n", " "))[3:]


def examples() -> list[Example]:
  """The commands of the documents, in their order."""
  found, title = [], ""
  text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
  blocks = r"^## (.+)$|^    (python -m lumiere_jax\.sample (?:.*\\\n)*.*)$"
  for heading, command in re.findall(blocks, text, re.MULTILINE):
    title = heading or title
    if match := re.search(r"--out=gallery/(\w+)", command):
      command = re.sub(r"^    ", "", command, flags=re.MULTILINE)
      found.append(Example(title, command, match[1]))
  return found


def main() -> None:
  todo = examples()
  for example in todo:
    make(example)
  page = GALLERY / "index.html"
  page.write_text(render(todo), encoding="utf-8")
  print(page)


def make(example: Example) -> None:
  """Runs a command; its folder is changed only when it is through."""
  scratch = GALLERY / f".{example.name}"
  shutil.rmtree(scratch, ignore_errors=True)
  command = [sys.executable, "-m", "lumiere_jax.sample", *example.arguments]
  subprocess.run([*command, f"--out={scratch}"], cwd=ROOT, check=True)
  for clip in scratch.glob("*.webp"):
    clip.unlink()  # The MP4 is the same larger; what is here is kept in git.
  folder = GALLERY / example.name
  shutil.rmtree(folder, ignore_errors=True)
  scratch.rename(folder)


def render(todo: list[Example]) -> str:
  """The page: one section for each command, all paths relative to it."""
  sections = "\n".join(_section(example) for example in todo)
  return _PAGE.replace("SECTIONS", sections)


def _section(example: Example) -> str:
  (sidecar,) = (GALLERY / example.name).glob("*.json")
  told = json.loads(sidecar.read_text(encoding="utf-8"))
  flags = example.flags
  given = [_figure(name, flags[name]) for name in FILES if name in flags]
  stem = f"{example.name}/{sidecar.stem}"
  if (GALLERY / f"{stem}.low.mp4").is_file():
    given.append(_figure("made first", f"{stem}.low.mp4"))
  seam = ", ".join(
    f"{name.replace('_', ' ')} {value:.1f}"
    for name, value in told.get("seam", {}).items()
    if value is not None
  )
  seam = f"<p>In grey levels: {seam}.</p>" if seam else ""
  return f"""<section id="{example.name}">
<h2>{html.escape(example.title)}</h2>
<p class="prompt">{html.escape(told["prompt"])}</p>
<div class="row">{"".join(given)}{_figure("made", f"{stem}.mp4")}</div>
<pre>{html.escape(example.command)}</pre>
{seam}</section>"""


def _figure(caption: str, source: str) -> str:
  """A clip, an image, or a box in words; a path from the page's folder."""
  source = source.removeprefix("gallery/")
  if source.endswith(".mp4"):
    shown = (
      f'<video src="{source}" autoplay loop muted playsinline controls></video>'
    )
  elif source.endswith(".png"):
    shown = f'<img src="{source}" alt="{caption}">'
  else:
    shown = f"<code>{html.escape(source)}</code>"
  return f"<figure>{shown}<figcaption>{caption}</figcaption></figure>"


# The script counts what is shown, for whoever tests the page.
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>lumiere_jax: gallery</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 72rem; margin: 0 auto; padding: 1rem; }
section { border-top: 1px solid #8886; padding: 0.5rem 0 1rem; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; align-items: end; }
figure { margin: 0; }
img, video { height: 192px; max-width: 100%; image-rendering: pixelated; }
figcaption { font-size: 0.85rem; opacity: 0.75; }
pre { overflow-x: auto; padding: 0.5rem; background: #8882; }
.prompt { font-style: italic; }
</style>
<h1>One network, several tasks</h1>
<p>Clips of 80 frames, 32 x 32 pixels, 16 frames a second, by the weights that
come with lumiere_jax. Left what was given, right what was made of it.</p>
SECTIONS
<script>
const media = [...document.querySelectorAll("video, img")];
const show = () => {
  const seen = media.filter(m =>
    m.tagName === "IMG" ? m.naturalWidth > 0 : m.currentTime > 0.1);
  document.body.dataset.shown = `${seen.length}/${media.length}`;
};
for (const m of media) {
  m.addEventListener("timeupdate", show);
  m.addEventListener("load", show);
  if (m.tagName === "VIDEO") m.play();  // Off the screen too.
}
show();
</script>
</html>
"""


if __name__ == "__main__":
  main()
