# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# What the tests with real programs share: an instance in front of them, and the loop that moves it
# from release to release while they work. Sourced after run_in_own_netns. The program under
# test finds its server at 127.0.0.1:80NN, which cman relays to 127.0.0.1:60NN.

# shellcheck disable=SC2034	# the tests use it
MIGRATIONS=20	# at least that many have to happen while a program works
CTL=$CMAN_BIN/cmanctl
# shellcheck disable=SC2034	# each test says which two releases take turns
RELEASES=("$CMAN_NEXT_BIN" "$CMAN_BIN")

app_migrations=0 app_moved=0 app_left=0 app_failed=0 app_refused=0 app_broken=0

# app_start NN…: an instance with one listener and one service for each number
app_start() {
	local n b
	for b in "${RELEASES[@]}"; do
		[ -x "$b/cmand" ] && [ -x "$b/cmanctl" ] || bail "$b/cmand is not built"
	done
	export CONF=$T/cman.conf
	{
		printf 'instance apps {\n    run_dir = "%s/run"\n    gateways = 2\n' "$T"
		for n in "$@"; do
			printf '    listener l%s { address = "127.0.0.1:80%s"  service = "s%s" }\n' \
				"$n" "$n" "$n"
			printf '    service s%s { targets = { "127.0.0.1:60%s" } }\n' "$n" "$n"
		done
		printf '}\n'
	} > "$CONF"
	"$CTL" startup -q -f "$CONF" || bail "the instance does not start"
	at_exit "$CTL" shutdown --abort -y -q -f "$CONF"
}

# works PID: this child has not ended
works() { ! is_gone "$1"; }

# app_migrate: once more to the other release; what the report says is added up
app_migrate() {
	local rc=0 bin=${RELEASES[app_migrations % 2]}
	"$bin/cmanctl" startup --migrate --json -f "$CONF" > "$T/report" 2> "$T/report.err" || rc=$?
	if [ $rc != 0 ] || ! read -r moved left failed refused < <(
		jq -r '"\(.moved) \(.left | length) \(.failed) \(.new_connections_refused)"' "$T/report"
	); then
		app_broken=$((app_broken + 1))
		diag "migration $((app_migrations + 1)): exit status $rc" \
			"$(cat "$T/report.err" "$T/report")"
		return 1
	fi
	app_migrations=$((app_migrations + 1))
	app_moved=$((app_moved + moved)) app_left=$((app_left + left))
	app_failed=$((app_failed + failed)) app_refused=$((app_refused + refused))
}

# migrate_during PID…: migrates, with short breaks, until one of these processes ends (a minute at
# most); sets $during to how often it did so while all of them worked
migrate_during() {
	local p end=$((SECONDS + 60))
	during=0
	while [ $SECONDS -lt $end ] && [ $app_broken -lt 3 ]; do
		app_migrate
		for p in "$@"; do
			works "$p" || return 0
		done
		during=$((during + 1))
		sleep 0.1
	done
}

# migrate_often N COMMAND…: N migrations, with the command after each
migrate_often() {
	local n=$1 i
	shift
	during=0
	for ((i = 0; i < n; i++)); do
		app_migrate || return
		during=$((during + 1))
		"$@"
	done
}

# app_verdict: what holds of every migration of the test
app_verdict() {
	diag "$app_migrations migrations, $app_moved sessions moved"
	is "$app_broken" 0 "every migration was done"
	is "$app_left" 0 "no session stayed with an old release"
	is "$app_failed" 0 "no session failed in a migration"
	is "$app_refused" 0 "no new connection was refused"
}

# at_rate MB: copies stdin to stdout at most so many megabytes a second, which stops whoever writes
at_rate() {
	python3 -c '
import sys, time
rate = float(sys.argv[1]) * 1e6
start, done = time.monotonic(), 0
while True:
    data = sys.stdin.buffer.read(65536)
    if not data:
        break
    sys.stdout.buffer.write(data)
    done += len(data)
    wait = start + done / rate - time.monotonic()
    if wait > 0:
        time.sleep(wait)
sys.stdout.buffer.flush()' "$1"
}

# sum_of [FILE]: sha256
sum_of() { sha256sum "$@" | cut -d' ' -f1; }
