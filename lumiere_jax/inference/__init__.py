# SPDX-License-Identifier: Apache-2.0
"""From prompts to pixels: models, encoders and samplers are passed in."""
