#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Single histories of the data path that went wrong once: see datapath_edges.c.
# timeout: 90

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"

cat > "$T/cman.conf" << END
instance edge {
	run_dir = "$T"
	gateways = 1
	max_sessions = 1000
	listener stays { address = "127.0.0.1:9001"  service = "only" }
	listener gone { address = "127.0.0.1:9002"  service = "only" }
	service only { targets = { "127.0.0.1:7001" }  source = "127.0.0.7" }
	rule all { source = "127.0.0.0/8" }
	rule limited { source = "127.0.0.66"  max_sessions = 1 }
}
END
ulimit -n 20000
"$CMAN_CRASH_BIN/cmanctl" startup -f "$T/cman.conf" > "$T/startup.out" 2>&1 ||
	bail "startup: $(cat "$T/startup.out")"
_tap_over=1 # the program prints plan and results
"$CMAN_CRASH_TESTBIN/fault/datapath_edges" "$CMAN_CRASH_BIN" "$T"
rc=$?
[ $rc = 0 ] || sed 's/^/# /' "$T/edge.log" | tail -n 60
exit $rc
