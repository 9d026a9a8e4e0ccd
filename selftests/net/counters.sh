#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The counters that a recovery relies on, read from real sockets in every TCP state: see counters.c.
# timeout: 60

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"

# 192.0.2.1 is there, and never answers
ip link add name silent type veth peer name silent1 && ip link set silent up &&
	ip link set silent1 up && ip address add 192.0.2.2/24 dev silent &&
	ip neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev silent || bail "cannot make a silent link"
_tap_over=1 # the program prints plan and results
"$CMAN_TESTBIN/net/counters"
exit $?
