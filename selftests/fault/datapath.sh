#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Crash safety of the data path: see datapath.c, which does all of it and prints the TAP.
# The long run: CMAN_FAULT_KILLS=3000 bash selftests/fault/datapath.sh
# timeout: 240

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"

ulimit -n 20000
# small queues in the sockets, so that legs block and rests are left
sysctl -qw net.ipv4.tcp_wmem="4096 32768 131072" net.ipv4.tcp_rmem="4096 65536 262144"
_tap_over=1 # its plan and results are not ours
"$CMAN_CRASH_TESTBIN/fault/datapath" "$CMAN_CRASH_BIN" "$T"
rc=$?
"$CMAN_CRASH_BIN/cmanctl" shutdown -f "$T/cman.conf" > "$T/shutdown.out" 2>&1 || diag "$(cat "$T/shutdown.out")"
exit $rc
