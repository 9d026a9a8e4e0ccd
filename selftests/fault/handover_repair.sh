#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 600
#
# A handover by TCP_REPAIR in which managers, gateways and keepers die, hang, or lose their channel, at
# every place that the carrier passes, under load: clients and targets are on hosts of their own,
# beyond a bridge, with plain kernel sockets. After each case no session may be lost but those
# that PROTOCOL says cannot be kept (each is counted), no byte may be wrong, no RST may have ended
# anything, and nothing may be left: frozen entries, filters, parking devices, images, pins, files,
# processes, slots.
#
# Cases are spread over lanes that run at once, each in namespaces of its own: a hanging manager takes
# seconds to be noticed, and needs no processor meanwhile. "handover_repair.sh LANE" runs one of them.
# CMAN_FAULT_LONG=1: later hits of each point too, and more places to hang.
. "$(dirname "$0")/../lib/tap.sh"
HERE=$(dirname "$0")
AT_ONCE=${CMAN_FAULT_LANES:-4}	# more, and the processors are the only thing that is tested
LANES=(source target cells cut lease)
# Not in every run: two deaths at once or in the middle of the recovery from another one, and managers that
# hang. Some of these cases still fail, see Documentation/testing.rst.
[ "${CMAN_FAULT_LONG:-0}" = 0 ] || LANES+=(both restore hang1 hang2 hang3)

# lane NAME: runs it, its results to a file
lane() { exec bash "$TAP_SELF" "$1" > "$T/lane.$1" 2>&1; }
# adopt NAME: a lane's results become ours
adopt() {
	local line planned=
	while IFS= read -r line; do
		case $line in
		"ok "*) ok "$1: ${line#ok * - }" ;;
		"not ok "*) not_ok "$1: ${line#not ok * - }" ;;
		1..*) planned=1 ;;
		*) printf '%s\n' "$line" ;;
		esac
	done < "$T/lane.$1"
	[ -n "$planned" ] || not_ok "lane $1 has come to its end"
}
if [ $# = 0 ]; then
	[ "$(id -u)" = 0 ] || skip_all "needs root"
	busy=0
	for l in "${LANES[@]}"; do
		[ $((busy += 1)) -le "$AT_ONCE" ] || wait -n
		lane "$l" &
		track $!
	done
	wait
	for l in "${LANES[@]}"; do adopt "$l"; done
	exit
fi

run_in_own_netns "$@"
LANE=$1
# shellcheck disable=SC2034	# lib_handover.sh's
VIA=repair CLIENTS=C SERVERS=B FRONT=10.1.0.1 BACK=10.1.0.3 CLIENT=10.1.0.2 PROBER=10.1.0.4
# shellcheck disable=SC2034
STREAM=(-n 40 --slow 6 --slow-rate 20k --idle 12 --half-close 6 -s 4096 -i 40)
# shellcheck disable=SC2034
STILL=20 RATE=20
need_cmd nstat tc

# what the carrier has left: the guard's pins, its filter, its device, images
residue() {
	local f
	for f in /sys/fs/bpf/cman/*/frozen; do
		[ ! -e "$f" ] || { f=${f%/frozen}; echo "frozen(${f##*/}): $(tool frozen "${f##*/}" 2>&1)"; }
	done
	find "$R" -path '*images/*' 2> /dev/null | sed 's/^/image: /'
	ip -o link show | grep -io '[a-z0-9]*park[a-z0-9]*' | head -n 1 | sed 's/^/device: /'
	tc filter show dev br0 ingress 2> /dev/null | grep -o 'cman_guard[^ ]*' | sed 's/^/filter: /'
}

wipe() { tc qdisc del dev br0 clsact 2> /dev/null; }

# counted COUNTER HOST…: over these hosts ("-": here)
counted() {
	local h
	for h in "${@:2}"; do
		if [ "$h" = - ]; then nstat -asz "$1"; else host "$h" nstat -asz "$1"; fi
	done | awk -v name="$1" '$1 == name { n += $2 } END { print n + 0 }'
}
# RSTs of the load's hosts, RSTs that ended a connection of theirs, RSTs from here
rsts() { echo "$(counted TcpOutRsts C B) $(counted TcpEstabResets C B) $(counted TcpOutRsts -)"; }
repetitions() { echo $(($(counted TcpExtTCPTimeouts C B) + $(counted TcpExtTCPLossProbes C B))); }
before() { RSTS=$(rsts) REPEATED=$(repetitions); }
# A FIN that its sender repeats, because this side stood still, may cross our last segment: nobody is there any
# more, and the kernel answers it with a RST that does no harm. So says the counter of connections ended; the load
# looks for itself too.
extra() {
	local now crossed
	now=$(rsts)
	crossed=$((${now##* } - ${RSTS##* }))
	if [ "${now% *}" != "${RSTS% *}" ] || [ $crossed -gt $(($(repetitions) - REPEATED)) ]; then
		why "RSTs (load's hosts, ended by one, from here): $RSTS -> $now"
	elif [ $crossed -gt 0 ]; then
		diag "$NAME: $crossed repetitions came after the end, and were answered with RST"
	fi
}
. "$HERE/lib_handover.sh"

clients_and_targets
host C ip address add 10.1.0.4/24 dev eth0
sysctl -qw net.ipv4.ip_local_port_range="20000 60999" net.ipv4.tcp_tw_reuse=1
sysctl -qw net.ipv4.tcp_rmem="4096 131072 4194304" net.ipv4.tcp_wmem="4096 16384 4194304"

# every point that a batch passes, of either side, and what comes before and after all batches
S_BATCH=(SOURCE_FREEZE SOURCE_FROZEN SOURCE_PARKED SOURCE_GIVEN REPAIR_CLOSED REPAIR_EXPORTED REPAIR_WRITTEN
	REPAIR_GONE SOURCE_BATCH SOURCE_DECIDE SOURCE_DECIDED SOURCE_COMMIT REPAIR_OPEN SOURCE_RELEASE
	SOURCE_RELEASED)
S_ONCE=(SOURCE_HELLO SOURCE_LISTENERS SOURCE_GIVE_NAME SOURCE_RENAMED SOURCE_NAMED SOURCE_DONE SOURCE_OVER)
T_BATCH=(REPAIR_IMPORTED TARGET_IMPORT TARGET_RESERVED TARGET_TAKEN TARGET_FILLED TARGET_PREPARED
	TARGET_PREPARED_SENT REPAIR_AWAKE TARGET_LIVE TARGET_ACTIVATE TARGET_ACTIVATED TARGET_COMMITTED)
T_ONCE=(TARGET_HELLO TARGET_STARTED TARGET_STEERED TARGET_READY TARGET_NAMED TARGET_RENAMED_FOLDER
	TARGET_RENAMED_PINS TARGET_RENAMED_RUN TARGET_FINISHED)
# how many of a session or a socket there are in a batch: a hit in the middle, and one of a later batch
later() {
	case $1 in
	REPAIR_GONE | REPAIR_IMPORTED | REPAIR_AWAKE) echo 7 $((LONG ? 20 : 0)) ;;
	TARGET_FILLED) echo 5 $((LONG ? 11 : 0)) ;;
	*) echo 2 $((LONG ? 4 : 0)) ;;
	esac | tr ' ' '\n' | grep -v '^0$'
}

[ "$LANE" != lease ] || export CMAN_GUARD_LEASE_MS=3000
conf "$T/c.conf" 2 20
servers
startup
load_begin || bail "no load"

# spread LANES THIS: of the lines on stdin those that are this lane's
spread() { awk -v n="$1" -v k="$2" 'NR % n == k % n'; }
# lease SIDE POINT: both managers die at once, and nobody adopts until the lease of what was closed has
# ended: nothing stays blocked. Who comes then counts what was lost meanwhile
lease() {
	local side=$1 point=$2 now lost said p
	begin "both managers die, $side at $point, and nobody comes" || return
	# shellcheck disable=SC2034
	OLDPID=$(status | field pid)
	if [ "$side" = old ]; then
		tool arm t1 "$point" 1 stop || why "cannot arm"
		until_stands
	else
		CMAN_CRASH=$point:1:stop until_stands
	fi
	stands || why "was not reached"
	p=$(stopped)
	for p in $(cat "$R"/t1*/pid) $p; do kill -KILL "$p"; done 2> /dev/null
	diag "$NAME: $(residue | tr '\n' ' ')"
	wait_for 8 none_in_force || why "still in force: $(residue | tr '\n' ' ')"
	ctl startup > "$T/mig" 2>&1 || why "startup: $(cat "$T/mig")"
	wait_for 8 settled || why "not settled after startup: $(leftovers)"
	now=$(clients) lost=$((WANT - now))
	said=$(log_since | sed -n 's/.*<2>\([0-9]*\) sessions .*lost.*/\1/p' | awk '{ s += $1 } END { print s + 0 }')
	diag "$NAME: $now of $WANT sessions live, the log says $said lost"
	[ "$lost" -le 16 ] || why "lost $lost: more than were in flight"
	WANT=$now
	before
	clean_status
	verdict
	anew
}
none_in_force() {
	local n
	for n in /sys/fs/bpf/cman/*/frozen; do
		[ ! -e "$n" ] && continue
		n=${n%/frozen}
		[[ "$(tool frozen "${n##*/}")" = "0 "* ]] || return 1
	done
}

case $LANE in
source)
	for p in "${S_ONCE[@]}" "${S_BATCH[@]}"; do crash old "$p"; done
	for p in "${S_BATCH[@]}"; do for n in $(later "$p"); do crash old "$p" "$n"; done; done
	;;
target)
	for p in "${T_ONCE[@]}" "${T_BATCH[@]}"; do crash new "$p"; done
	for p in "${T_BATCH[@]}"; do for n in $(later "$p"); do crash new "$p" "$n"; done; done
	;;
restore)
	# the way back, and what a rescue passes: the survivor dies too
	for p in EVICTED IMPORTED TAKEN FILLED LIVE OPEN; do both old RESTORE_$p TARGET_PREPARED_SENT; done
	both old RESTORE_IMPORTED TARGET_LIVE
	both old SOURCE_RELEASED TARGET_PREPARED
	for p in STOPPED KILLED FDS IMPORTED; do both new RESCUE_$p SOURCE_BATCH; done
	both new RESTORE_LIVE REPAIR_WRITTEN
	both new RESTORE_OPEN REPAIR_GONE
	both new RESCUE_FDS REPAIR_EXPORTED
	both new RESCUE_IMPORTED SOURCE_COMMIT
	both new TARGET_LIVE SOURCE_COMMIT
	both new REPAIR_AWAKE SOURCE_COMMIT
	both old REPAIR_OPEN TARGET_COMMITTED
	;;
both)
	for p in SOURCE_NAMED SOURCE_FROZEN REPAIR_CLOSED REPAIR_EXPORTED REPAIR_WRITTEN REPAIR_GONE SOURCE_BATCH \
		SOURCE_DECIDED SOURCE_COMMIT REPAIR_OPEN SOURCE_RELEASED; do managers_die old $p; done
	for p in TARGET_STEERED TARGET_RENAMED_PINS REPAIR_IMPORTED TARGET_TAKEN TARGET_FILLED TARGET_PREPARED_SENT \
		REPAIR_AWAKE TARGET_LIVE TARGET_ACTIVATED; do managers_die new $p; done
	;;
cells)
	for p in ORDER_SEEN FREEZE_STATE RELEASE_CLIENT RELEASE_FREE ORDER_DONE KEEPER_GIVE; do gateway_dies old $p; done
	for p in ORDER_SEEN RESERVE_SLOT ACTIVATE_STATE KEEPER_TAKE_GOT KEEPER_TAKE_TOLD; do gateway_dies new $p; done
	;;
cut)
	for p in SOURCE_LISTENERS SOURCE_GIVE_NAME SOURCE_NAMED "${S_BATCH[@]}" SOURCE_DONE; do cut_off old $p; done
	for p in TARGET_READY TARGET_NAMED "${T_BATCH[@]}"; do cut_off new $p; done
	;;
hang?)
	while read -r side p; do hang "$side" "$p"; done < <({
		printf 'old %s\n' SOURCE_NAMED "${S_BATCH[@]}" SOURCE_DONE
		printf 'new %s\n' TARGET_NAMED TARGET_RENAMED_PINS "${T_BATCH[@]}"
	} | spread 3 "${LANE#hang}")
	;;
lease)
	for p in SOURCE_BATCH REPAIR_EXPORTED; do lease old $p; done
	lease new TARGET_PREPARED_SENT
	;;
*) bail "no lane $LANE: ${LANES[*]}" ;;
esac

load_end
is "$TROUBLES" "" "the load through all of it: nothing lost, wrong or refused"
ctl shutdown > /dev/null 2>&1
wait_for 3 no_processes
is "$(run_files)|$(pins)|$(processes)|$(residue)" "t1.log |||" "after shutdown nothing is left but the log"
diag "$(cat "$TABLE" 2> /dev/null)"
