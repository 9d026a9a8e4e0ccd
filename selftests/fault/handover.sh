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
need_cmd ss

LONG=${CMAN_FAULT_LONG:-0}
ONLY=${CMAN_FAULT_ONLY:-.}
BIN=$CMAN_CRASH_BIN
TOOL=$CMAN_CRASH_TESTBIN/fault/handover_tool
BENCH=$BIN/cman-bench
R=$T/run
LOG=$R/t1.log
TABLE=$T/table
ulimit -c 0
[ -x "$TOOL" ] && [ -x "$BIN/cmand" ] || bail "no crash-point build in $CMAN_CRASH_BUILD"

# --- the instance

# conf FILE GATEWAYS TIMEOUT [SERVICES]: SERVICES without "hold" drops that service
conf() {
	cat > "$1" <<-EOF
	instance t1 {
	    run_dir = "$R"
	    gateways = $2
	    max_sessions = 6000
	    handover_timeout = $3
	    log_level = "info"
	    listener front { address = "127.0.0.1:7001"  service = "echo" }
	    listener dead { address = "127.0.0.1:7003"  service = "dead" }
	    service echo { targets = { "127.0.0.1:7101" } }
	    service dead { targets = { "192.0.2.1:9" }  connect_timeout = 60 }
	EOF
	[[ ${4-hold} != *hold* ]] || cat >> "$1" <<-EOF
	    listener held { address = "127.0.0.1:7002"  service = "hold" }
	    service hold { targets = { "127.0.0.1:7102" } }
	EOF
	echo "}" >> "$1"
}

ctl() { timeout 40 "$BIN/cmanctl" -f "$T/c.conf" "$@"; }
tool() { "$TOOL" "$@"; }

# field NAME: of a JSON document on stdin
field() { sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",}]*\).*/\1/p" | head -n 1; }
status() { ctl status -j "$@" 2> /dev/null; }

# processes: pids of all processes of the instance, zombies not counted
processes() {
	local p s
	for p in /proc/[0-9]*; do
		[ "$(readlink "$p/exe" 2> /dev/null)" = "$(readlink -f "$BIN/cmand")" ] || continue
		s=$(sed 's/.*) //; s/ .*//' "$p/stat" 2> /dev/null)
		[ -z "$s" ] || [ "$s" = Z ] || echo "${p#/proc/}"
	done
}

run_files() { (cd "$R" 2> /dev/null && ls -1 | tr '\n' ' '); }
pins() { ls -1 /sys/fs/bpf/cman 2> /dev/null | tr '\n' ' '; }

# settled: one instance of the name answers and nothing of another one is there
settled() {
	[ "$(run_files)" = "t1 t1.log t1.sock " ] && [ "$(pins)" = "t1 " ] || return 1
	[ "$(status | field state)" = running ] || return 1
	local g
	g=$(status | field gateways)
	[ "$(processes | wc -l)" = $((1 + 3 * ${g:-2})) ]
}

# kill_all: whatever is left of an instance
kill_all() {
	local p
	for p in $(processes); do kill -STOP "$p" 2> /dev/null; done
	wait_for 5 none_after_kill
	rm -rf "$R" /sys/fs/bpf/cman/* 2> /dev/null
}
none_after_kill() {
	local p
	for p in $(processes); do kill -KILL "$p" 2> /dev/null; done
	no_processes
}
no_processes() { [ -z "$(processes)" ]; }

startup() {
	local out
	out=$(ctl startup 2>&1) && return
	bail "the instance does not start: $out $(tail -n 5 "$LOG" 2>&1)"
}

# --- load

# clients: sockets of the load's sessions
clients() { ss -Htn "src = 127.0.0.2" | wc -l; }

servers() {
	"$BENCH" serve -l 127.0.0.1:7101 > "$T/serve.out" 2>&1 & track $!
	"$BENCH" serve -l 127.0.0.1:7102 -m hold -s 512 -i 100 > "$T/hold.out" 2>&1 & track $!
	wait_for 5 listens 7101 && wait_for 5 listens 7102 || bail "no servers"
	# a server that never answers
	ip link add dead0 type veth peer name dead1 && ip link set dead0 up && ip link set dead1 up &&
		ip address add 192.0.2.2/24 dev dead0 &&
		ip neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev dead0 nud permanent
}

LOADS=()
load_begin() {
	local n=$((_load = ${_load:-0} + 1))
	LOADS=()
	rm -f "$T"/ready.*
	"$BENCH" stream -c 127.0.0.1:7001 -n 90 --slow 10 --idle 30 --half-close 6 \
		--hold-connect 127.0.0.1:7002 --source 127.0.0.2 -i 20 -d 0 --connect-timeout 20 \
		--drain-timeout 20 --progress --ready-file "$T/ready.1" -j \
		> "$T/stream.$n" 2> "$T/stream.$n.err" &
	LOADS+=($!)
	"$BENCH" stream -c 127.0.0.1:7001 -n 3 -s 64k -w 256k -i 10 --source 127.0.0.2 -d 0 \
		--drain-timeout 20 --progress --ready-file "$T/ready.2" -j \
		> "$T/bulk.$n" 2> "$T/bulk.$n.err" &
	LOADS+=($!)
	"$BENCH" probe -c 127.0.0.1:7001 --rate 40 --source 127.0.0.3 -d 0 --connect-timeout 20 \
		--progress -j > "$T/probe.$n" 2> "$T/probe.$n.err" &
	LOADS+=($!)
	track "${LOADS[@]}"
	wait_for 10 test -s "$T/ready.1" && wait_for 10 test -s "$T/ready.2" || {
		diag "$(tail -n 3 "$T/stream.$n.err" "$T/bulk.$n.err")"
		return 1
	}
	WANT=$(clients)
}

# load_troubles: what the load has said so far that is not a figure
load_troubles() {
	local f
	for f in "$T"/{stream,bulk,probe}."$_load".err; do
		grep -hvE '^ *[0-9.]+ s |^ready|^$' "$f" | head -n 3
	done
}

# load_end: stops it; what was lost, wrong or refused, one line; empty when all is well
load_end() {
	local p f bad=
	TROUBLES=
	for p in "${LOADS[@]}"; do kill -TERM "$p" 2> /dev/null; done
	for p in "${LOADS[@]}"; do
		wait_for 30 is_gone "$p" || { kill -KILL "$p"; TROUBLES="a load did not end "; }
		wait "$p" 2> /dev/null || bad=1
	done
	[ -z "$bad" ] || for f in "$T"/{stream,bulk,probe}."$_load"; do
		TROUBLES+="${f##*/}: $(tr -d ' \n' < "$f" | cut -c1-400) "
	done
	TROUBLES+=$(load_troubles)
}

# --- one case

declare -i CASES=0

# why: collects what is wrong in a case
WHY=() WANT=0
why() { WHY+=("$*"); }

begin() { # NAME: is it wanted
	[[ $1 =~ $ONLY ]] || return 1
	NAME=$1 WHY=() BEGAN=$(now_ms) LINE=$(cat "$LOG" 2> /dev/null | wc -l) SURVIVOR=-
	CASES+=1
}

# log_since: what was logged in this case
log_since() { tail -n +$((LINE + 1)) "$LOG" 2> /dev/null; }

verdict() {
	local took=$(($(now_ms) - BEGAN))
	printf '%-34s %-9s %4s/%-4s %6s ms  %s\n' "$NAME" "$SURVIVOR" "$(clients)" "$WANT" "$took" \
		"${WHY[*]:-ok}" >> "$TABLE"
	if [ ${#WHY[@]} = 0 ]; then
		ok "$NAME: survivor $SURVIVOR, $took ms"
		return
	fi
	not_ok "$NAME" "$(printf '%s; ' "${WHY[@]}")"
	diag "run_dir: $(run_files), pins: $(pins), processes: $(processes | tr '\n' ' ')"
	log_since | tail -n 30 | cut -c1-220 | sed 's/^/#   /'
	return 1
}

# anew: after a failed case nothing is to be trusted
anew() {
	load_end > /dev/null
	kill_all
	startup
	load_begin || bail "no load on a fresh instance"
}

# everyone_alive: sessions and probes are as they were
everyone_alive() {
	local n troubles
	n=$(clients)
	[ "$n" = "$WANT" ] || why "sessions: $n of $WANT"
	troubles=$(load_troubles)
	[ -z "$troubles" ] || why "load: ${troubles//$'\n'/ | }"
}

# who: old, new, adopted by pid
who() {
	local pid
	pid=$(status | field pid)
	case $pid in
	"") echo none ;;
	"$OLDPID") echo old ;;
	*) echo new ;;
	esac
}

# aftermath: one instance remains, with startup's help if need be; and a clean migration works
aftermath() {
	local out rc=0
	if wait_for "${1:-1}" settled; then
		SURVIVOR=$(who)
	elif [ -n "$(status | field pid)" ]; then
		SURVIVOR=$(who)
		wait_for 8 settled || why "not settled: run_dir $(run_files) pins $(pins) state $(status | field state)"
	else
		SURVIVOR=startup
		out=$(ctl startup 2>&1) || why "startup: $out"
		wait_for 8 settled || why "not settled after startup: run_dir $(run_files) pins $(pins)"
	fi
	sleep 0.05
	everyone_alive
	[ ${#WHY[@]} = 0 ] || return
	clean_migration
}

clean_migration() {
	local out rc=0
	out=$(ctl startup --migrate -j 2> "$T/mig.err") || rc=$?
	[ $rc = 0 ] || { why "clean migration: rc $rc $(cat "$T/mig.err")"; return; }
	[ "$(field exited <<< "$out")" = true ] || why "clean migration: old.exited $out"
	[ "$(field failed <<< "$out")" = 0 ] || why "clean migration: failed $(field failed <<< "$out")"
	[ "$(field moved <<< "$out")" -ge "$WANT" ] || why "clean migration moved $(field moved <<< "$out")"
	wait_for 4 settled || why "not settled after a clean migration: $(run_files) $(pins) $(processes | wc -l)"
	everyone_alive
}

# crash SIDE POINT [COUNT]
crash() {
	local side=$1 point=$2 count=${3:-1}
	begin "$side dies at $point${3:+ ($3)}" || return
	OLDPID=$(status | field pid)
	if [ "$side" = old ]; then
		tool arm t1 "$point" "$count" || why "cannot arm"
		migrate_shortly
	else
		CMAN_CRASH=$point:$count migrate_shortly
	fi
	log_since | grep -q "dies at a crash point.*$point" || why "was not reached"
	if [ "$point" = TARGET_HELLO ]; then # nobody knows of it: its folder stays until the next
		SURVIVOR=$(who)
		everyone_alive
		clean_migration
	else
		aftermath
	fi
	# a point that was not reached stays armed
	tool arm t1 NONE 2> /dev/null
	verdict || anew
}

# gateway_dies SIDE POINT: its cell goes on by itself, and so does the migration
gateway_dies() {
	local side=$1 point=$2 rc=0 out
	begin "$side gateway or keeper dies at $point" || return
	OLDPID=$(status | field pid)
	if [ "$side" = old ]; then
		tool arm t1 "$point" || why "cannot arm"
		out=$(ctl startup --migrate -j 2> "$T/mig") || rc=$?
	else
		out=$(CMAN_CRASH=$point ctl startup --migrate -j 2> "$T/mig") || rc=$?
	fi
	log_since | grep -q "dies at a crash point.*$point" || why "was not reached"
	[ $rc = 0 ] || why "migration: rc $rc $(tail -n 1 "$T/mig")"
	[ "$(field exited <<< "$out")" = true ] || why "the old one has not exited"
	wait_for 4 settled || why "not settled: $(run_files) $(pins) $(processes | wc -l)"
	SURVIVOR=$(who)
	everyone_alive
	tool arm t1 NONE 2> /dev/null
	verdict || anew
}

# both A B: the new side dies at A while it deals with the old one's death at B, or the other way round
both() {
	local a=$1 b=$2
	begin "new dies at $a after old died at $b" || return
	[[ $b = SOURCE_* ]] || NAME="old dies at $a after new died at $b"
	OLDPID=$(status | field pid)
	if [[ $b = SOURCE_* ]]; then
		tool arm t1 "$b" || why "cannot arm"
		CMAN_CRASH=$a migrate_shortly
	else
		tool arm t1 "$a" || why "cannot arm"
		CMAN_CRASH=$b migrate_shortly
	fi
	log_since | grep -q "dies at a crash point.*$a" || why "$a was not reached"
	log_since | grep -q "dies at a crash point.*$b" || why "$b was not reached"
	aftermath
	tool arm t1 NONE 2> /dev/null
	verdict || anew
}

# migrate_shortly: cmanctl waits 10 s for somebody to take the name; we look ourselves
migrate_shortly() {
	timeout -k 1 "${1:-2.5}" "$BIN/cmanctl" -f "$T/c.conf" startup --migrate > "$T/mig" 2>&1
}

# hang SIDE POINT [COUNT]: a manager stops there, does not die, and goes on much later
hang() {
	local side=$1 point=$2 count=${3:-1} pid
	begin "$side hangs at $point" || return
	OLDPID=$(status | field pid)
	if [ "$side" = old ]; then
		tool arm t1 "$point" "$count" stop || why "cannot arm"
		migrate_shortly 1
	else
		CMAN_CRASH=$point:$count:stop migrate_shortly 1
	fi
	pid=$(log_since | sed -n "s/.*stops at a crash point.*pid=\\([0-9]*\\).*/\\1/p" | tail -n 1)
	[ -n "$pid" ] || why "was not reached"
	sleep 3.5	# the silence is noticed after 3 s
	everyone_alive
	flowing
	[ -z "$pid" ] || kill -CONT "$pid" 2> /dev/null # which was killed
	aftermath 2
	verdict || anew
}

# flowing: every busy stream gets its bytes back now: none is frozen. A chunk comes every 20 ms
flowing() {
	local a b
	a=$(ss -Htni "src = 127.0.0.2 and dport = :7001" | grep -o 'bytes_received:[0-9]*' | cut -d: -f2 | paste -sd' ')
	sleep 1.2
	b=$(ss -Htni "src = 127.0.0.2 and dport = :7001" | grep -o 'bytes_received:[0-9]*' | cut -d: -f2 | paste -sd' ')
	# 30 idle ones stand still, slow ones move little
	b=$(awk -v a="$a" -v b="$b" 'BEGIN { n = split(a, x); split(b, y); for (i = 1; i <= n; i++) s += x[i] == y[i]; print s }')
	[ "$b" -le 40 ] || why "$b sessions stand still"
}

# managers_die SIDE POINT: one manager stops there, then both die at once
managers_die() {
	local side=$1 point=$2 p
	begin "both managers die, $side at $point" || return
	OLDPID=$(status | field pid)
	if [ "$side" = old ]; then
		tool arm t1 "$point" 1 stop || why "cannot arm"
		migrate_shortly 0.6
	else
		CMAN_CRASH=$point:1:stop migrate_shortly 0.6
	fi
	p=$(log_since | sed -n "s/.*stops at a crash point.*pid=\\([0-9]*\\).*/\\1/p" | tail -n 1)
	[ -n "$p" ] || why "was not reached"
	for p in "$R"/t1*/pid; do kill -KILL "$(cat "$p")"; done 2> /dev/null
	# shellcheck disable=SC2046
	[ -z "$p" ] || kill -KILL $(log_since | sed -n "s/.*stops at a crash point.*pid=\\([0-9]*\\).*/\\1/p") 2> /dev/null
	aftermath 0
	verdict || anew
}

# side_dies SIDE POINT COUNT: all processes of one side are killed there; what was its own is lost, and
# counted, the rest lives
side_dies() {
	local side=$1 point=$2 count=$3 name p pids lost said now
	begin "all of $side die at $point ($count)" || return
	OLDPID=$(status | field pid)
	if [ "$side" = old ]; then
		tool arm t1 "$point" "$count" stop || why "cannot arm"
		migrate_shortly 0.6
	else
		CMAN_CRASH=$point:$count:stop migrate_shortly 0.6
	fi
	p=$(log_since | sed -n "s/.*stops at a crash point.*pid=\\([0-9]*\\).*/\\1/p" | tail -n 1)
	[ -n "$p" ] || why "was not reached"
	for name in t1 t1_old t1_new; do
		pids=$(tool pids $name 2> /dev/null)
		[[ $pids = *"manager $p"* ]] || continue
		for p in $(awk '{ print $2 }' <<< "$pids"); do kill -STOP "$p" 2> /dev/null; done
		for p in $(awk '{ print $2 }' <<< "$pids"); do kill -KILL "$p" 2> /dev/null; done
		break
	done
	if ! wait_for 5 settled; then
		ctl startup > "$T/mig" 2>&1 || why "startup: $(cat "$T/mig")"
		wait_for 5 settled || why "not settled: $(run_files) $(pins)"
	fi
	sleep 0.5
	SURVIVOR=$(who)
	now=$(clients) lost=$((WANT - now))
	said=$(log_since | sed -n 's/.*<2>\([0-9]*\) sessions of .* were lost.*/\1/p' | awk '{ s += $1 } END { print s + 0 }')
	diag "$NAME: $now of $WANT sessions live, the log says $said lost"
	[ "$lost" -ge 0 ] && [ "$said" -ge "$lost" ] || why "lost $lost, the log says $said"
	[ "$(status | field sessions)" -ge "$now" ] || why "$(status | field sessions) sessions, $now clients"
	WANT=$now
	clean_status
	verdict
	anew
}

clean_status() {
	local out
	out=$(ctl startup --migrate -j 2> "$T/mig.err") || why "clean migration: $(cat "$T/mig.err")"
	wait_for 4 settled || why "not settled after a clean migration"
	[ "$(clients)" = "$WANT" ] || why "after a clean migration $(clients) of $WANT"
}

# cancelled MS [--rollback]: with 2,000 idle sessions
cancelled() {
	local ms=$1 out rc=0 old pid
	shift
	begin "cancel $* after $ms ms" || return
	OLDPID=$(status | field pid)
	ctl startup --migrate --no-wait > "$T/mig" 2>&1 &
	old=$!
	sleep "$(awk -v m="$ms" 'BEGIN { print m / 1000 }')"
	ctl migrate --cancel "$@" > "$T/cancel" 2>&1 || rc=$?
	wait $old
	diag "$NAME: $(head -n 1 "$T/cancel")"
	sleep 0.5
	[ "$(clients)" = "$WANT" ] || why "sessions: $(clients) of $WANT"
	# what stays on the old one is left there until it ends
	if [ -e "$R/t1_old" ]; then
		SURVIVOR=both
		out=$(status -c t1_old)
		[ "$(field role <<< "$out")" = old ] || why "t1_old: $out"
		ctl startup --migrate > "$T/mig" 2>&1 && why "a migration beside t1_old was not refused"
		kill -KILL "$(cat "$R/t1_old/pid")"
		wait_for 8 settled || why "t1_old was not taken in: $(run_files)"
	else
		SURVIVOR=$(who)
		wait_for 5 settled || why "not settled $(run_files) $(pins) $(processes | wc -l)"
	fi
	[ "$(clients)" = "$WANT" ] || why "sessions: $(clients) of $WANT"
	pid=$(status | field sessions)
	[ "$pid" = "$WANT" ] || why "$pid sessions, $WANT wanted"
	verdict || { kill_all; startup; }
}

# rescued WHO: these processes are stopped; rescue takes everything
rescued() {
	local who=$1 out p t0
	begin "rescue, stopped: $who" || return
	OLDPID=$(status | field pid)
	p=$(tool pids t1)
	case $who in
	all) p=$(awk '{ print $2 }' <<< "$p") ;;
	manager) p=$(awk '/^manager/ { print $2 }' <<< "$p") ;;
	gateway) p=$(awk '/^gateway/ { print $2; exit }' <<< "$p") ;;
	keepers) p=$(awk '/^(keeper|spare)/ { print $2 }' <<< "$p") ;;
	*) p= ;;
	esac
	# shellcheck disable=SC2086
	[ -z "$p" ] || kill -STOP $p
	t0=$(now_ms)
	out=$(ctl rescue 2>&1) || why "rescue: $out"
	wait_for 5 settled || why "not settled: $(run_files) $(pins) $(processes | wc -l)"
	diag "$NAME: $(($(now_ms) - t0)) ms; $(log_since | grep -o 'took in .*' | head -n 1)"
	SURVIVOR=$(who)
	[ "$SURVIVOR" = new ] || why "the old one answers"
	sleep 0.1
	everyone_alive
	flowing
	clean_migration
	verdict || anew
}

points() { tool points | grep -E "$1"; }

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
both THAW_SLOT TARGET_PREPARED_SENT
both RESCUE_STOPPED SOURCE_BATCH
both RESCUE_KILLED SOURCE_COMMIT
both RESCUE_FDS SOURCE_PARKED
both RESCUE_IMPORTED SOURCE_FROZEN
# --- managers that hang

hang new TARGET_NAMED
hang new TARGET_LIVE
hang old SOURCE_BATCH
if [ "$LONG" != 0 ]; then
	for p in TARGET_IMPORT TARGET_PREPARED_SENT TARGET_ACTIVATE TARGET_COMMITTED; do hang new $p; done
	for p in SOURCE_FROZEN SOURCE_PARKED SOURCE_DECIDED SOURCE_COMMIT SOURCE_RELEASE; do hang old $p; done
fi

# --- both managers at once

for p in TARGET_STEERED TARGET_RENAMED_FOLDER TARGET_RENAMED_PINS TARGET_PREPARED_SENT TARGET_LIVE \
	TARGET_ACTIVATED; do managers_die new $p; done
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
	log_since | grep -q "dies at a crash point.*$1" || why "was not reached"
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
