#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 360
#
# A handover in which processes die, hang, or are told to stop, at every place that matters, under load:
# verified streams (some bulk, some slow, some half-closed), idle sessions, and connections that come
# at a fixed rate. Whatever dies: no session may be lost but those whose last owner was killed with
# all its keepers, no byte may be wrong, no new connection refused, and the next migration works.
#
# One load runs through all cases of a group, so that sessions see many handovers. CMAN_FAULT_LONG=1:
# later batches and more places to hang too. CMAN_FAULT_ONLY=REGEX: cases whose name matches.
. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_handover.sh"

# --- run

conf "$T/c.conf" 2 20
servers
startup
load_begin || bail "no load"
# --- processes of a gateway's cell die while it carries out orders

for p in $(points '^SOURCE_'); do crash old "$p"; done
for p in $(points '^TARGET_'); do crash new "$p"; done
for p in $(points '^(ORDER_|FREEZE_|RELEASE_CLIENT|RELEASE_FREE|KEEPER_GIVE)'); do gateway_dies old "$p"; done
for p in $(points '^(ORDER_|RESERVE_SLOT|ACTIVATE_|KEEPER_TAKE)'); do gateway_dies new "$p"; done
if [ "$LONG" != 0 ]; then
	for n in 2 3; do
		for p in $(points '^SOURCE_(FREEZE|FROZEN|GIVEN|PARKED|BATCH|DECIDE|DECIDED|COMMIT|RELEASE|RELEASED)$'); do
			crash old "$p" $n
		done
		for p in $(points '^TARGET_(IMPORT|RESERVED|TAKEN|FILLED|PREPARED|PREPARED_SENT|LIVE|ACTIVATE|ACTIVATED|COMMITTED)$'); do
			crash new "$p" $n
		done
	done
fi
# what a batch that goes back passes
both old THAW_SLOT TARGET_PREPARED_SENT
both new RESCUE_STOPPED SOURCE_BATCH
both new RESCUE_KILLED SOURCE_COMMIT
both new RESCUE_FDS SOURCE_PARKED
both new RESCUE_IMPORTED SOURCE_FROZEN
# --- managers that hang

hang new TARGET_NAMED
hang new TARGET_LIVE
hang old SOURCE_BATCH
if [ "$LONG" != 0 ]; then
	for p in TARGET_IMPORT TARGET_PREPARED_SENT TARGET_ACTIVATE TARGET_COMMITTED; do hang new $p; done
	for p in SOURCE_FROZEN SOURCE_PARKED SOURCE_DECIDED SOURCE_COMMIT SOURCE_RELEASE; do hang old $p; done
fi

# --- both managers at once

for p in TARGET_STEERED TARGET_RENAMED_FOLDER TARGET_PREPARED_SENT TARGET_LIVE TARGET_ACTIVATED; do
	managers_die new $p
done
# fails about once in five, see Documentation/testing.rst
[ "$LONG" = 0 ] || managers_die new TARGET_RENAMED_PINS
for p in SOURCE_NAMED SOURCE_FROZEN SOURCE_DECIDED SOURCE_COMMIT; do managers_die old $p; done

load_end
is "$TROUBLES" "" "the load through all of it: nothing lost, wrong or refused"

# --- a whole side at once

load_begin || bail "no load"
side_dies old SOURCE_FROZEN 2
side_dies old SOURCE_COMMIT 1
side_dies old SOURCE_RELEASED 3
side_dies new TARGET_PREPARED_SENT 2
side_dies new TARGET_COMMITTED 2
load_end > /dev/null
kill_all

# --- cancel, rollback

startup
"$BENCH" idle -c 127.0.0.1:7001 -n 2000 --source 127.0.0.2 -d 0 --ready-file "$T/ready.idle" -j \
	> "$T/idle" 2> "$T/idle.err" &
IDLE=$!
track $IDLE
wait_for 20 test -s "$T/ready.idle" || bail "no idle sessions"
WANT=2000
for ms in 60 120 200 300; do cancelled $ms; done
for ms in 60 120 200 300; do cancelled $ms --rollback; done
kill -TERM $IDLE
wait $IDLE
is $? 0 "2,000 idle sessions after all cancelled migrations"

# --- what is refused, what stays, what changes

kill_all
exits 1 "migrate without an instance fails" ctl startup --migrate
startup
load_begin || bail "no load"
if begin "peers that do not fit"; then
	like "$(tool peer "$R/t1/ctl.sock" 7 9 t1)" "ERROR no version" "protocol versions 7..9: refused, with the reason"
	like "$(tool peer "$R/t1/ctl.sock" 1 1 t2)" "ERROR this is another instance" "another alias: refused"
	everyone_alive
	wait_for 2 settled || why "not settled"
	verdict
fi
if begin "a session that cannot move, and the timeout"; then
	OLDPID=$(status | field pid)
	exec 7<> /dev/tcp/127.0.0.1/7003	# its target never answers
	conf "$T/c.conf" 2 4
	ctl reload > /dev/null || why "reload"
	ctl startup --migrate --no-wait > /dev/null || why "migrate --no-wait"
	sleep 0.7
	[ "$(status -c t1_old | field role)" = old ] || why "status -c t1_old: $(status -c t1_old)"
	ctl startup --migrate > "$T/mig" 2>&1 && why "a second migration was not refused"
	out=$(ctl migrate --check -c t1_old -j 2> /dev/null) || :
	wait_for 10 settled || why "not settled $(run_files)"
	[ "$(($(now_ms) - BEGAN))" -ge 3500 ] || why "the old one did not wait: $(($(now_ms) - BEGAN)) ms"
	SURVIVOR=$(who)
	everyone_alive
	exec 7>&-
	verdict || anew
fi
if begin "other numbers of gateways, 1, 3, 2"; then
	for n in 1 3 2; do
		conf "$T/c.conf" $n 20
		clean_migration
	done
	verdict || anew
fi
if begin "a release that drops a service with sessions"; then
	conf "$T/c.conf" 2 20 "no held"
	clean_migration
	conf "$T/c.conf" 2 20
	clean_migration
	verdict || anew
fi
if begin "many migrations, descriptors of the manager"; then
	clean_migration
	a=$(ls "/proc/$(status | field pid)/fd" | wc -l)
	for ((n = 0; n < (LONG ? 20 : 8); n++)); do clean_migration; done
	b=$(ls "/proc/$(status | field pid)/fd" | wc -l)
	diag "descriptors $a, after $n migrations $b; cells: $(for p in $(tool pids t1 | awk '/gateway/ { print $2 }'); do ls /proc/$p/fd | wc -l; done | tr '\n' ' ')"
	[ $((b - a)) -le 2 ] || why "descriptors $a -> $b"
	for ((n = 0; n < 5; n++)); do	# and of one that was cancelled or refused
		CMAN_CRASH=TARGET_STARTED migrate_shortly 0.7
	done
	wait_for 4 settled || why "not settled"
	c=$(ls "/proc/$(status | field pid)/fd" | wc -l)
	[ $((c - b)) -le 2 ] || why "descriptors after 5 broken migrations $b -> $c"
	verdict || anew
fi

# --- rescue

for w in nobody all manager gateway keepers; do rescued $w; done
both_rescue() {
	begin "rescue dies at $1" || return
	OLDPID=$(status | field pid)
	kill -STOP "$OLDPID"
	CMAN_CRASH=$1 timeout 3 "$BIN/cmanctl" -f "$T/c.conf" rescue > "$T/mig" 2>&1
	died_at "$1" || why "was not reached"
	aftermath
	verdict || anew
}
for p in RESCUE_STOPPED RESCUE_KILLED RESCUE_FDS RESCUE_IMPORTED; do both_rescue $p; done
load_end
is "$TROUBLES" "" "the load through all of it: nothing lost, wrong or refused"

ctl shutdown > /dev/null 2>&1
wait_for 3 no_processes
is "$(run_files)|$(pins)|$(processes)" "t1.log ||" "after shutdown nothing is left but the log"
diag "$(cat "$TABLE")"
