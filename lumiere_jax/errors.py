# SPDX-License-Identifier: Apache-2.0
"""The one exception that stands for a mistake of the user."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
  """A mistake a user can make; command lines print it as one line and exit."""


def nearest(name: str, choices: Iterable[str]) -> str:
  """Returns ' (did you mean X?) choices: ...', to end an error message with.

  Args:
    name: what the user wrote.
    choices: the valid names.
  """
  choices = sorted(choices)
  if not choices:
    return "; there are none"
  close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
  hint = f" (did you mean {close[0]!r}?)" if close else ""
  return f"{hint}; choices: {', '.join(choices)}"
