# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034
#
# What the fault suites of a handover share: an instance t1 of the build with crash points, a load that
# runs through all cases of a group, and the cases: who dies, hangs or loses the channel where, and
# what has to be true afterwards. Sourced after lib/tap.sh and run_in_own_netns. Before, the test may
# say what is its own:
#
#	VIA		the carrier
#	CLIENTS, SERVERS  hosts (host_add) of the load's two ends; empty: here
#	FRONT, BACK	addresses of listeners and targets
#	CLIENT, PROBER	source addresses of sessions and of new connections
#	STREAM, STILL	sessions: options of cman-bench stream, and how many of them stand still
#	RATE		new connections a second
#	wipe()		removes what a killed instance of the carrier leaves, after a failed case
#	residue()	prints what the carrier has left behind: nothing when all is well
#	before(), extra()  of a case: takes figures; says why() of what else went wrong
#
# CMAN_FAULT_LONG=1: more cases. CMAN_FAULT_ONLY=REGEX: cases whose name matches.

VIA=${VIA:-fd} CLIENTS=${CLIENTS-} SERVERS=${SERVERS-}
FRONT=${FRONT:-127.0.0.1} BACK=${BACK:-127.0.0.1} CLIENT=${CLIENT:-127.0.0.2} PROBER=${PROBER:-127.0.0.3}
[ -n "${STREAM+set}" ] || STREAM=(-n 90 --slow 10 --idle 30 --half-close 6 -i 20)
STILL=${STILL:-40} RATE=${RATE:-40}
declare -F residue > /dev/null || residue() { :; }
declare -F wipe > /dev/null || wipe() { :; }
declare -F before > /dev/null || before() { :; }
declare -F extra > /dev/null || extra() { :; }
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
	    log_level = "${CMAN_FAULT_LOG:-info}"
	    listener front { address = "$FRONT:7001"  service = "echo" }
	    listener dead { address = "$FRONT:7003"  service = "dead" }
	    service echo { targets = { "$BACK:7101" } }
	    service dead { targets = { "192.0.2.1:9" }  connect_timeout = 60 }
	EOF
	[[ ${4-hold} != *hold* ]] || cat >> "$1" <<-EOF
	    listener held { address = "$FRONT:7002"  service = "hold" }
	    service hold { targets = { "$BACK:7102" } }
	EOF
	echo "}" >> "$1"
}

ctl() { timeout 40 "$BIN/cmanctl" -f "$T/c.conf" "$@"; }
tool() { "$TOOL" "$@"; }

# at HOST COMMAND…: becomes the command, on that host or here. In the background, or in a pipe
at() {
	[ -z "$1" ] || exec nsenter -t "$(host_pid "$1")" -n -m -- "${@:2}"
	exec "${@:2}"
}

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
	[ -z "$(residue)$(tool slots t1 | grep -E 'reserved|prepared|leaving')" ] || return 1
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
	wipe
}
none_after_kill() {
	local p
	for p in $(processes); do kill -KILL "$p" 2> /dev/null; done
	no_processes
}
# leftovers: what keeps the instance from being settled
leftovers() {
	echo "run_dir $(run_files) pins $(pins) state $(status | field state) slots $(tool slots t1 2>&1 | tr '\n' ' ')" \
		"processes $(processes | wc -l) $(residue)"
}
no_processes() { [ -z "$(processes)" ]; }

startup() {
	local out
	out=$(ctl startup 2>&1) && return
	bail "the instance does not start: $out $(tail -n 5 "$LOG" 2>&1)"
}

# --- load

# clients: sockets of the load's sessions; not those that an earlier load has left to the kernel
clients() { at "$CLIENTS" ss -Htne "src = $CLIENT" 2> /dev/null | grep -vc ' ino:0 '; }

servers() {
	at "$SERVERS" "$BENCH" serve -l "$BACK:7101" --ready-file "$T/ready.7101" > "$T/serve.out" 2>&1 & track $!
	at "$SERVERS" "$BENCH" serve -l "$BACK:7102" -m hold -s 512 -i 100 --ready-file "$T/ready.7102" \
		> "$T/hold.out" 2>&1 & track $!
	wait_for 5 test -e "$T/ready.7101" && wait_for 5 test -e "$T/ready.7102" || bail "no servers"
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
	at "$CLIENTS" "$BENCH" stream -c "$FRONT:7001" "${STREAM[@]}" \
		--hold-connect "$FRONT:7002" --source "$CLIENT" -d 0 --connect-timeout 20 \
		--drain-timeout 20 --progress --ready-file "$T/ready.1" -j \
		> "$T/stream.$n" 2> "$T/stream.$n.err" &
	LOADS+=($!)
	at "$CLIENTS" "$BENCH" stream -c "$FRONT:7001" -n 3 -s 64k -w 256k -i 10 --source "$CLIENT" -d 0 \
		--drain-timeout 20 --progress --ready-file "$T/ready.2" -j \
		> "$T/bulk.$n" 2> "$T/bulk.$n.err" &
	LOADS+=($!)
	at "$CLIENTS" "$BENCH" probe -c "$FRONT:7001" --rate "$RATE" --source "$PROBER" -d 0 --connect-timeout 20 \
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
	before
}

# log_since: what was logged in this case
log_since() { tail -n +$((LINE + 1)) "$LOG" 2> /dev/null; }

# died_at POINT: somebody did in this case, or does soon: who waits for a migration does not wait for its rescue
died_at() { wait_for 3 has_died_at "$1"; }
has_died_at() { [ "$(log_since | grep -c "dies at a crash point.*$1")" -gt 0 ]; }

verdict() {
	local took
	extra
	took=$(($(now_ms) - BEGAN))
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
		wait_for 8 settled || why "not settled: $(leftovers)"
	else
		SURVIVOR=startup
		out=$(ctl startup 2>&1) || why "startup: $out"
		wait_for 8 settled || why "not settled after startup: $(leftovers)"
	fi
	sleep 0.05
	everyone_alive
	[ ${#WHY[@]} = 0 ] || return
	clean_migration
}

clean_migration() {
	local out rc=0
	out=$(ctl startup --migrate --via $VIA -j 2> "$T/mig.err") || rc=$?
	[ $rc = 0 ] || { why "clean migration: rc $rc $(cat "$T/mig.err")"; return; }
	[ "$(field exited <<< "$out")" = true ] || why "clean migration: old.exited $out"
	[ "$(field failed <<< "$out")" = 0 ] || why "clean migration: failed $(field failed <<< "$out")"
	[ "$(field moved <<< "$out")" -ge "$WANT" ] || why "clean migration moved $(field moved <<< "$out")"
	wait_for 4 settled || why "not settled after a clean migration: $(leftovers)"
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
	died_at "$point" || why "was not reached"
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
		out=$(ctl startup --migrate --via $VIA -j 2> "$T/mig") || rc=$?
	else
		out=$(CMAN_CRASH=$point ctl startup --migrate --via $VIA -j 2> "$T/mig") || rc=$?
	fi
	died_at "$point" || why "was not reached"
	[ $rc = 0 ] || why "migration: rc $rc $(tail -n 1 "$T/mig")"
	[ "$(field exited <<< "$out")" = true ] || why "the old one has not exited"
	wait_for 4 settled || why "not settled: $(leftovers)"
	SURVIVOR=$(who)
	everyone_alive
	tool arm t1 NONE 2> /dev/null
	verdict || anew
}

# both SIDE A B: this side dies at A while it deals with the other's death at B
both() {
	local side=$1 a=$2 b=$3 other
	[ "$side" = new ] && other=old || other=new
	begin "$side dies at $a after $other died at $b" || return
	OLDPID=$(status | field pid)
	if [ "$side" = new ]; then
		tool arm t1 "$b" || why "cannot arm"
		CMAN_CRASH=$a migrate_shortly
	else
		tool arm t1 "$a" || why "cannot arm"
		CMAN_CRASH=$b migrate_shortly
	fi
	died_at "$a" || why "$a was not reached"
	died_at "$b" || why "$b was not reached"
	aftermath
	tool arm t1 NONE 2> /dev/null
	verdict || anew
}

# shellcheck disable=SC2120
# migrate_shortly: cmanctl waits 10 s for somebody to take the name; we look ourselves
migrate_shortly() {
	timeout -k 1 "${1:-2.5}" "$BIN/cmanctl" -f "$T/c.conf" startup --migrate --via $VIA > "$T/mig" 2>&1
}

# hang SIDE POINT [COUNT]: a manager stops there, does not die, and goes on much later
hang() {
	local side=$1 point=$2 count=${3:-1} pid
	begin "$side hangs at $point" || return
	OLDPID=$(status | field pid)
	if [ "$side" = old ]; then
		tool arm t1 "$point" "$count" stop || why "cannot arm"
		until_stands
	else
		CMAN_CRASH=$point:$count:stop until_stands
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

# stopped: the pid of the manager that stands at its crash point; waits for it
stopped() { log_since | sed -n "s/.*stops at a crash point.*pid=\\([0-9]*\\).*/\\1/p" | tail -n 1; }
stands() { [ -n "$(stopped)" ]; }

# cut_off SIDE POINT [COUNT]: the channel breaks while that side is there, and both live on
cut_off() {
	local side=$1 point=$2 count=${3:-1} pid mig
	begin "the channel breaks, $side at $point${3:+ ($3)}" || return
	OLDPID=$(status | field pid)
	if [ "$side" = old ]; then
		tool arm t1 "$point" "$count" stop || why "cannot arm"
		migrate_shortly & mig=$!
	else
		CMAN_CRASH=$point:$count:stop migrate_shortly & mig=$!
	fi
	if wait_for 3 stands; then
		pid=$(stopped)
		tool cut "$pid" > /dev/null || why "no channel to cut"
		kill -CONT "$pid"
	else
		why "was not reached"
	fi
	wait $mig
	tool arm t1 NONE 2> /dev/null
	aftermath 3
	verdict || anew
}

# standing: how many sessions get nothing back. A chunk comes every 20 or 40 ms
standing() {
	local a b
	a=$(at "$CLIENTS" ss -Htni "src = $CLIENT and dport = :7001" | grep -o 'bytes_received:[0-9]*' | cut -d: -f2 | paste -sd' ')
	sleep 1.2
	b=$(at "$CLIENTS" ss -Htni "src = $CLIENT and dport = :7001" | grep -o 'bytes_received:[0-9]*' | cut -d: -f2 | paste -sd' ')
	awk -v a="$a" -v b="$b" 'BEGIN { n = split(a, x); split(b, y); for (i = 1; i <= n; i++) s += x[i] == y[i]; print s + 0 }'
}

# until_stands: a migration, until a manager stands at its crash point
until_stands() {
	timeout -k 1 10 "$BIN/cmanctl" -f "$T/c.conf" startup --migrate --via $VIA > "$T/mig" 2>&1 &
	wait_for 10 stands
	kill -TERM $! 2> /dev/null
	wait $! 2> /dev/null
	return 0
}

# flowing: every busy stream gets its bytes: none is frozen. Idle ones stand still, slow ones move
# little, and a busy machine has its pauses
flowing() {
	local n tries
	for ((tries = 0; tries < 5; tries++)); do
		n=$(standing)
		[ "$n" -gt "$STILL" ] || return
	done
	why "$n sessions stand still"
}

# managers_die SIDE POINT: one manager stops there, then both die at once
managers_die() {
	local side=$1 point=$2 p
	begin "both managers die, $side at $point" || return
	OLDPID=$(status | field pid)
	if [ "$side" = old ]; then
		tool arm t1 "$point" 1 stop || why "cannot arm"
		until_stands
	else
		CMAN_CRASH=$point:1:stop until_stands
	fi
	p=$(log_since | sed -n "s/.*stops at a crash point.*pid=\\([0-9]*\\).*/\\1/p" | tail -n 1)
	[ -n "$p" ] || why "was not reached"
	for p in "$R"/t1*/pid; do kill -KILL "$(cat "$p")"; done 2> /dev/null
	p=$(stopped)
	[ -z "$p" ] || kill -KILL "$p" 2> /dev/null
	aftermath 0
	verdict || anew
}

none_is_alone() { [ "$(status | field sessions)" -ge "$(clients)" ]; }
# side_dies SIDE POINT COUNT: all processes of one side are killed there; what was its own is lost, and
# counted, the rest lives
side_dies() {
	local side=$1 point=$2 count=$3 name p pids lost said now
	begin "all of $side die at $point ($count)" || return
	OLDPID=$(status | field pid)
	if [ "$side" = old ]; then
		tool arm t1 "$point" "$count" stop || why "cannot arm"
		until_stands
	else
		CMAN_CRASH=$point:$count:stop until_stands
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
	# what a dead side had sent already still reaches clients that read slowly, and then the end of it
	wait_for 20 none_is_alone || why "$(status | field sessions) sessions, $(clients) clients"
	SURVIVOR=$(who)
	now=$(clients) lost=$((WANT - now))
	said=$(log_since | sed -n 's/.*<2>\([0-9]*\) sessions of .* were lost.*/\1/p' | awk '{ s += $1 } END { print s + 0 }')
	diag "$NAME: $now of $WANT sessions live, the log says $said lost"
	[ "$lost" -ge 0 ] && [ "$said" -ge "$lost" ] || why "lost $lost, the log says $said"
	WANT=$now
	clean_status
	verdict
	anew
}

clean_status() {
	local out
	out=$(ctl startup --migrate --via $VIA -j 2> "$T/mig.err") || why "clean migration: $(cat "$T/mig.err")"
	wait_for 4 settled || why "not settled after a clean migration"
	[ "$(clients)" = "$WANT" ] || why "after a clean migration $(clients) of $WANT"
}

# cancelled MS [--rollback]: with 2,000 idle sessions
cancelled() {
	local ms=$1 out rc=0 old pid
	shift
	begin "cancel $* after $ms ms" || return
	OLDPID=$(status | field pid)
	ctl startup --migrate --via $VIA --no-wait > "$T/mig" 2>&1 &
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
		ctl startup --migrate --via $VIA > "$T/mig" 2>&1 && why "a migration beside t1_old was not refused"
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
	wait_for 5 settled || why "not settled: $(leftovers)"
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
