# SPDX-License-Identifier: Apache-2.0
"""What the network is given beside noise, timestep and text."""
