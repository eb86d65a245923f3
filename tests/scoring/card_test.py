# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json

import pytest

from lumiere_jax.errors import UserError
from lumiere_jax.scoring.card import Card, check_comparable, differences

CARD = Card(
  score="FVD",
  network="i3d",
  network_sha256="ab" * 32,
  resize="bilinear, 224 x 224",
  frames=16,
  fps=16.0,
  stride=1,
  clip_rule="first frames",
  real=2048,
  generated=2048,
  reference="ucf101 train+test, split 1",
  seed=0,
  dtype="float64",
  dimensions=400,
)


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Card)])
def test_every_field_makes_another_card(field):
  value = getattr(CARD, field)
  other = f"{value}x" if isinstance(value, str) else value + 1
  changed = dataclasses.replace(CARD, **{field: other})
  assert changed.hash != CARD.hash
  assert differences(CARD, changed) == {field: (value, other)}
  with pytest.raises(UserError, match=f"cannot be compared: {field}: "):
    check_comparable(CARD, changed)


def test_cards_survive_json():
  told = json.loads(json.dumps(CARD.as_dict()))
  assert Card.from_dict(told) == CARD and told["hash"] == CARD.hash
  check_comparable(CARD, Card.from_dict(told))
  assert len(CARD.hash) == 16


def test_cards_that_were_changed_are_refused():
  told = CARD.as_dict() | {"generated": 10}
  with pytest.raises(UserError, match="was changed"):
    Card.from_dict(told)
  with pytest.raises(UserError, match="speed"):
    Card.from_dict(CARD.as_dict() | {"speed": 1})
