# SPDX-License-Identifier: Apache-2.0
"""What a program costs: counted by hand, read from compiled programs, timed by
what the hardware could do at best.

Nothing here knows a model or runs one. `network` counts from a configuration,
`work` turns that into training and sampling steps, `hlo` and `program` read
what XLA has compiled, `memory` says where the bytes are, `hardware` how long it
takes at least, `topology` names devices that need not be there.
"""
