# SPDX-License-Identifier: Apache-2.0
"""Captioned clips: sprite packs, rendering, captions, builder and loader."""
