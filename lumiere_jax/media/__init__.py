# SPDX-License-Identifier: Apache-2.0
"""Pixels at the edge of the program, and files of clips.

Inside, pixels are floats in [-1, 1]; here and outside, uint8 with clips as
(t, h, w, c).
"""

from lumiere_jax.media.files import (
  check_free,
  free_path,
  new_file,
  publish_together,
)
from lumiere_jax.media.pixels import Clip, to_float, to_uint8
from lumiere_jax.media.read import (
  FITS,
  Footage,
  Picture,
  Size,
  fit_image,
  frames_of_image,
  read_image,
  read_video,
)
from lumiere_jax.media.sheet import contact_sheet, contact_sheet_many
from lumiere_jax.media.write import save_npy, write_mp4, write_png, write_webp

__all__ = [
  "FITS",
  "Clip",
  "Footage",
  "Picture",
  "Size",
  "check_free",
  "contact_sheet",
  "contact_sheet_many",
  "fit_image",
  "frames_of_image",
  "free_path",
  "new_file",
  "publish_together",
  "read_image",
  "read_video",
  "save_npy",
  "to_float",
  "to_uint8",
  "write_mp4",
  "write_png",
  "write_webp",
]
