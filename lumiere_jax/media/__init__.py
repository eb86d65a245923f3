# SPDX-License-Identifier: Apache-2.0
"""Pixels at the edge of the program, and files of clips.

Inside, pixels are floats in [-1, 1]; here and outside, uint8 with clips as
(t, h, w, c).
"""

from lumiere_jax.media.beside import (
  CLIPS,
  VIDEOS,
  clips_among,
  read_caption,
  read_sidecar,
)
from lumiere_jax.media.files import (
  check_free,
  claim,
  free_path,
  new_file,
  publish_together,
  write_json,
)
from lumiere_jax.media.pixels import Clip, to_float, to_uint8
from lumiere_jax.media.read import Footage, read_video
from lumiere_jax.media.reel import resampled
from lumiere_jax.media.segment import (
  Facts,
  Unusable,
  Wish,
  probe,
  read_segment,
  read_still,
)
from lumiere_jax.media.sheet import contact_sheet, contact_sheet_many
from lumiere_jax.media.still import (
  FITS,
  Picture,
  Size,
  fit_image,
  frames_of_image,
  read_image,
)
from lumiere_jax.media.transcode import transcode
from lumiere_jax.media.write import (
  encode_mp4,
  save_npy,
  write_mp4,
  write_png,
  write_webp,
)

__all__ = [
  "CLIPS",
  "FITS",
  "VIDEOS",
  "Clip",
  "Facts",
  "Footage",
  "Picture",
  "Size",
  "Unusable",
  "Wish",
  "check_free",
  "claim",
  "clips_among",
  "contact_sheet",
  "contact_sheet_many",
  "encode_mp4",
  "fit_image",
  "frames_of_image",
  "free_path",
  "new_file",
  "probe",
  "publish_together",
  "read_caption",
  "read_image",
  "read_segment",
  "read_sidecar",
  "read_still",
  "read_video",
  "resampled",
  "save_npy",
  "to_float",
  "to_uint8",
  "transcode",
  "write_json",
  "write_mp4",
  "write_png",
  "write_webp",
]
