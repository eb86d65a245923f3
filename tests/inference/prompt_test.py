# SPDX-License-Identifier: Apache-2.0
import pytest

from lumiere_jax.errors import UserError
from lumiere_jax.inference import prompt
from lumiere_jax.inference.prompt import Request


def test_prompts_of_the_command_line_come_before_those_of_the_file(tmp_path):
  file = tmp_path / "prompts.txt"
  file.write_text("a ghost spinning\n\n  \n an orca rising \n", "utf-8")
  read = prompt.read_prompts(["a dolphin "], str(file))
  assert read == ["a dolphin", "a ghost spinning", "an orca rising"]


def test_prompts_that_cannot_be_are_one_clear_line(tmp_path):
  blank, binary = tmp_path / "blank.txt", tmp_path / "binary.txt"
  blank.write_text("\n \n")
  binary.write_bytes(b"\xff\xfe\x00")
  for given, file, message in (
    ([], None, "no prompt; give --prompt="),
    ([" "], None, "the prompt ' ' is empty"),
    ([], blank, "blank.txt' has no prompt in it"),
    ([], binary, "cannot read prompts file .*binary.txt"),
    ([], tmp_path / "absent", "cannot read prompts file .*absent"),
    ([], tmp_path, "cannot read prompts file"),
  ):
    with pytest.raises(UserError, match=message) as raised:
      prompt.read_prompts(given, file and str(file))
    assert "\n" not in str(raised.value)


def test_samples_of_a_prompt_are_numbered_within_it():
  made = prompt.requests(["a", "b"], 2)
  assert made == [
    Request("a", 0),
    Request("a", 1),
    Request("b", 0),
    Request("b", 1),
  ]
  with pytest.raises(UserError, match="num_samples=0 must be at least 1"):
    prompt.requests(["a"], 0)


@pytest.mark.parametrize(
  "text, stem",
  [
    ("A ghost, spinning!", "a-ghost-spinning-3"),
    ("../../etc/passwd", "etc-passwd-3"),
    ("Ein Bär läuft", "ein-bär-läuft-3"),
    ("?!", "clip-3"),
    ("x" * 47 + " y", "x" * 47 + "-3"),
    ("x" * 200, "x" * 48 + "-3"),
  ],
)
def test_a_file_is_named_by_its_prompt(text, stem):
  assert prompt.file_stem(Request(text, 3)) == stem
