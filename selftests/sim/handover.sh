#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The real handover state machines against each other under random schedules of delays, breaks and
# crashes: every history ends with one owner for each session. Prints the TAP of the simulator.
exec "${CMAN_BUILD:-build}/tests/sim/handover_sim" "$@"
