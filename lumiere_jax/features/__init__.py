# SPDX-License-Identifier: Apache-2.0
"""Networks that others have trained, for their features of frames and clips."""
