# SPDX-License-Identifier: Apache-2.0
"""Training: state, optimizer, step, log and loop.

The loss, the data and the sample writer are passed in; nothing here knows a
model.
"""
