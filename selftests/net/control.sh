#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The commands on one instance: every field of --json, set, reload, suspend, close, shutdown, signals,
# exit codes and messages, warnings about certificates, when_down = wait, bpftool's view, two instances,
# readiness, the log, what the daemon keeps of its caller.
# timeout: 150

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_instance.sh"
. "$CMAN_ROOT/selftests/lib/certificates.sh"
need_cmd bpftool nc openssl
make_certificates "$T/cert" || bail "no certificates"

base() {
	cat <<'END'
instance cman1 {
    run_dir = "@RUN@"
    gateways = 2
    max_sessions = 500
    listener echo { address = "127.0.0.1:7001"  service = "echo" }
    service echo { targets = { "127.0.0.1:9001", "127.0.0.1:9002" } }
    listener wait { address = "127.0.0.1:7002"  service = "wait" }
    service wait { targets = { "127.0.0.1:9001" }  when_down = "wait" }
END
}
{ base; echo '    rule all { source = "0.0.0.0/0"  action = "accept" }'; echo "}"; } | conf
serve ECHO --listen 127.0.0.1:9001
hi() { "$PEER" connect "127.0.0.1:$1" text=hi expect=hi; }
# err COMMAND…: exit status and stderr in one line
err() {
	local rc=0 text
	text=$("$@" 2>&1 > /dev/null < /dev/null) || rc=$?
	echo "$rc $text"
}
# live NAME: verified streams that must go through what follows; live_end NAME DESCRIPTION
live() { bench "$1" stream -c "127.0.0.1:${2:-7001}" -n "${3:-10}" -i 20; }
live_end() {
	bench_end "$1"
	is "$(report "$1" '[.ok, .lost, .wrong_bytes] | join(" ")')" "true 0 0" "$2"
}

# kill_all: every process of cman1 (this namespace has no others) at once: those that are stopped first
# cannot replace the others
kill_all() {
	local pids='' now p
	while now=$(ps -eo pid=,args= | sed -n 's/^ *\([0-9]*\) cman: .*\[cman1\]$/\1/p'); do
		[ "$now" != "$pids" ] || break
		pids=$now
		# shellcheck disable=SC2086	# several
		kill -STOP $pids
	done
	# shellcheck disable=SC2086
	kill -KILL $pids
	for p in $pids; do wait_for 3 is_gone "$p"; done
}

# --- startup

like "$(err ctl status)" '^1 .*(not running|no answer)' "status of an instance that is not there: exit 1, says so"
like "$(err ctl shutdown)" '^1 .*(not running|no answer)' "shutdown of it: the same"
exits 0 "check needs no instance" ctl check
exec 7> "$T/leak"
like "$(ctl startup 2>&1 | cat)" '^instance cman1 runs \(pid [0-9]+, version [^,]+, 0 sessions\)$' \
	"startup through a pipe returns: nobody keeps it open; run_dir was made"
exec 7>&-
pid=$(field .pid)
is "$(readlink "/proc/$pid/fd/0")" /dev/null "stdin of the daemon is closed"
is "$(for p in $(all_pids); do find "/proc/$p/fd" -lname "$T/leak"; done)" "" \
	"no process of the instance has a descriptor of the caller"
is "$(ps -o sid= -p "$pid" | tr -d ' ')" "$pid" "it has a session of its own"
like "$(err ctl startup)" "^1 .*running already.*pid $pid" "a second startup: exit 1, names the process"
is "$(field .pid)" "$pid" "and changes nothing"
ok "it serves" hi 7001
is "$(grep -cvE '^<[0-7]>' "$RUN/cman1.log")" 0 "every line of the log has its priority"
is "$(stat -c %a "$RUN/cman1.sock" 2> /dev/null | sed 's/^777$/600/')" 600 "the control socket is its owner's"
if getent passwd nobody > /dev/null; then
	chmod 755 "$T" "$RUN"
	like "$(err setpriv --reuid=nobody --clear-groups "$CTL" -f "$T/cman.conf" status)" \
		'^1 .*(root|ermission)' "another user: exit 1, says why"
fi

# --- every field

live LIVE
all() { # DESCRIPTION JSON FILTER: the filter is true
	local out
	out=$(jq -c "$3" <<< "$2" 2>&1)
	is "$out" true "$1" || diag "$(head -c 1500 <<< "$2")"
}
T_num='def n: type == "number" and . == floor and . >= 0; def s: type == "string"; def b: type == "boolean";'
T_num+='def addr: s and test("^([0-9.]+|\\[[0-9a-f:]+\\]):[0-9]+$");'
all "status --json" "$(ctl status --json)" "$T_num"'
	.instance == "cman1" and (.pid | n) and (.version | s) and .role == "current" and
	.state == "running" and (.uptime_s | n) and .sessions == 10 and .gateways == 2 and
	.max_sessions == 500 and (.accepted | n) and (.refused | n) and has("migration") and .migration == null'
all "show sessions --json" "$(ctl show sessions --json)" "$T_num"'
	type == "array" and length == 10 and all(.[]; keys == (["id","service","client","listener","source",
	"target","state","client_tls","server_tls","sni","alpn","gateway","age_s","idle_s","bytes_up",
	"bytes_down","handovers"] | sort) and (.id | s and test("^[0-9a-f]{16}$")) and .service == "echo" and
	(.client | addr) and .listener == "127.0.0.1:7001" and (.source | addr) and
	.target == "127.0.0.1:9001" and .state == "relaying" and .client_tls == null and .server_tls == null and
	.sni == null and .alpn == null and
	(.gateway | n) and (.age_s | n) and (.idle_s | n) and (.bytes_up | n) and (.bytes_down | n) and
	.bytes_up > 0 and .handovers == 0) and (map(.id) | unique | length) == 10'
all "show services --json" "$(ctl show services --json)" "$T_num"'
	length == 2 and all(.[]; (.name | s) and .state == "open" and (.listeners | type == "array" and
	all(.[]; addr)) and (.targets | length > 0 and all(.[]; (.address | addr) and .state == "up" and
	(.sessions | n) and (.failures | n))) and .balance == "first" and (.sessions | n) and
	all(.steered, .rejected, .dropped, .held, .no_listener; n)) and .[0].steered > 0'
all "show rules --json" "$(ctl show rules --json)" "$T_num"'
	length == 1 and .[0] == {"name":"all","source":"0.0.0.0/0","service":"*","action":"accept",
	"max_idle_s":0,"max_sessions":0,"sessions":10}'
all "show gateways --json" "$(ctl show gateways --json)" "$T_num"'
	length == 2 and all(.[]; (.keepers | length == 2 and all(.[]; n and . > 1)) and
	all(.gateway, .pid, .sessions, .accepted, .refused, .closed, .resets, .bytes_up, .bytes_down,
	.buffers_used, .pipes_open, .recoveries, .recovered, .lost, .last_recovery_us, .replaced.gateway,
	.replaced.keepers, .beat_age_ms; n) and (.tls | keys == ["broken","cut","failed","handshakes",
	"truncated"] and (.failed | keys == ["alpn","certificate","cipher","closed","expired","internal",
	"name","protocol","version"] and all(.[]; n)) and all(.handshakes, .cut, .truncated, .broken; n))) and
	(map(.sessions) | add) == 10'
all "show parameters --json" "$(ctl show parameters --json)" "$T_num"'
	all(.[]; (.name | s) and (.value | s) and (.changeable | b) and has("unit")) and
	any(.[]; .name == "max_sessions" and .value == "500" and .changeable)'
all "show events --json" "$(ctl show events --json)" "$T_num"'
	length > 0 and all(.[]; (.time | type == "number") and (.level | s) and (.text | s))'
all "show version --json" "$(ctl show version --json)" "$T_num"'
	(.release | s) and (.wire | length == 2 and all(.[]; n)) and (.abi | n) and (.kernel | s) and
	.carriers == ["fd", "repair"]'
all "top --once --json" "$(ctl top --once --json)" 'has("status") and has("services") and has("gateways")'
all "migrate --check --json" "$(ctl migrate --check --json)" "$T_num"'
	.via == "fd" and .can_move == 10 and .cannot == 0 and (.sessions | length == 10 and
	all(.[]; (.id | s) and .service == "echo" and .can_move == true and has("reason")))'
is "$(ctl show sessions --json --source 127.0.0.0/8 --service echo --state relaying | jq length) $(
	ctl show sessions --json --source 10.0.0.0/8 | jq length)" "10 0" "filters"
like "$(err ctl show sessions --service nosuch)" '^2 .*unknown service "nosuch".*echo' "an unknown service: exit 2"
for what in sessions services rules gateways parameters events version; do
	ok "show $what as a table" ctl show $what
done
is "$(ctl status -q --json | jq -s length)" 1 "one JSON document and nothing else"
like "$(ctl show nothing --json 2> /dev/null)" '"code": ?2' "a failure with --json is a document, too"

# --- set

like "$(ctl set echo.idle_timeout 77)" . "set says what it did"
is "$(show parameters '.[] | select(.name == "echo.idle_timeout") | .value')" 77 "the value is in force"
like "$(err ctl set echo.idle_timeout soon)" '^2 .*expected' "no number: exit 2"
like "$(err ctl set nothing 1)" '^2 .*unknown parameter' "an unknown parameter: exit 2"
ctl set echo.idle_timeout 0 -q

# --- reload

{
	base
	echo '    listener new { address = "127.0.0.1:7003"  service = "new" }'
	echo '    service new { targets = { "127.0.0.1:9001" } }'
	echo '    rule all { source = "0.0.0.0/0"  action = "accept" }'
	echo '    rule no { source = "127.0.0.66/32"  action = "reject" }'
	echo "}"
} | conf
like "$(ctl reload)" 'listener new added' "reload says what has changed"
ok "the new listener serves" hi 7003
ok "the new rule rejects" "$PEER" connect 127.0.0.1:7001 source=127.0.0.66 refused
live NEW 7003 3
{ base; echo "}"; } | conf
like "$(ctl reload)" 'listener new removed' "and it is removed again, with live sessions"
# once the gateways have closed it, too
ok "nobody is let in any more" wait_for 5 "$PEER" connect 127.0.0.1:7003 refused
ok "the rule has gone" "$PEER" connect 127.0.0.1:7001 source=127.0.0.66 text=hi expect=hi
live_end NEW "sessions of a removed service go on"
expired() {
	base
	printf '    tls { certificate = "%s" key = "%s" ca = "%s" }\n' \
		"$T/cert/expired.pem" "$T/cert/expired.key" "$T/cert/ca.pem"
	printf '    listener late { address = "127.0.0.1:7003" service = "echo"\n    tls { %s } }\n}\n' \
		"certificate = \"$T/cert/expired.pem\" key = \"$T/cert/expired.key\""
}
expired | conf
late=": tls: $T/cert/expired.pem: peers will refuse this certificate: it expired"
like "$(ctl reload)" 'listener late added' "a listener with a certificate that has expired"
warnings=$(show events '.[] | select(.level == "warning") | .text')
like "$warnings" "$T/cman.conf:11$late" "is a warning of a reload"
like "$warnings" "$T/cman.conf:9$late" "so is that of the channel"
{ base; echo "}"; } | conf
ctl reload -q
{ base; echo '    colour = "red"'; echo "}"; } | conf
like "$(err ctl reload)" "^2 .*$T/cman.conf:9: .*colour" "a broken file: exit 2 and FILE:LINE"
ok "the old configuration stays" hi 7001
{ base; echo '    listener taken { address = "127.0.0.1:9001"  service = "echo" }'; echo "}"; } | conf
like "$(err ctl reload)" "^2 .*$T/cman.conf:9: .*127.0.0.1:9001" "an address that is taken: exit 2 and FILE:LINE"
ok "nothing has changed" hi 7001
{ base | sed 's/7002/7012/; s/gateways = 2/gateways = 3/'; echo "}"; } | conf
like "$(err ctl reload)" "^2 .*gateways" "what needs a restart: exit 2"
ok "and nothing of it is in force" hi 7002
{ base | sed 's/7002/7012/'; echo "}"; } | conf
kill -HUP "$pid"
ok "SIGHUP reads the file, too" wait_for 3 hi 7012
ok "the old address is nobody's" "$PEER" connect 127.0.0.1:7002 refused
{ base; echo "}"; } | conf
ok "back" ctl reload -q
live_end LIVE "live sessions did not notice any reload"

# --- suspend, resume

live LIVE
ok "suspend one service" ctl suspend echo -q
is "$(field .state) $(show services '.[].state' | tr '\n' ' ')" "running suspended open " "is shown"
"$PEER" connect 127.0.0.1:7001 text=hi expect=hi touch="$T/in" & waiting=$!
held() { [ "$(show services '.[0].held')" -gt 0 ]; }
ok "a new client is held" wait_for 3 held
ok "others are served" hi 7002
ok "it has not been refused" test ! -e "$T/in" -a -d /proc/$waiting
ok "resume" ctl resume echo -q
wait $waiting
is $? 0 "it is let in then"
ok "suspend all" ctl suspend -q
is "$(field .state)" suspended "the instance is suspended"
ok "resume all" ctl resume -q
is "$(field .state)" running "and runs again"
like "$(err ctl suspend nosuch)" '^2 .*unknown service' "an unknown service: exit 2"
live_end LIVE "live sessions did not notice"

# --- close

bench A stream -c 127.0.0.1:7001 -n 4 -i 20 --source 127.0.0.2
bench B stream -c 127.0.0.1:7002 -n 4 -i 20 --source 127.0.0.3
id=$(show sessions '.[0].id' --source 127.0.0.2)
ok "close by id" ctl close "$id" -q
is "$(field .sessions)" 7 "one less"
exits 1 "the id is unknown then" ctl close "$id"
exits 3 "one known, one unknown: exit 3" ctl close "$id" "$(show sessions '.[0].id' --source 127.0.0.2)"
exits 2 "--service asks first; nobody can answer: exit 2" ctl close --service echo
ok "close --service" ctl close --service echo -y -q
is "$(show sessions 'map(.service) | unique | join(" ")')" wait "only the other service's are left"
ok "close --source" ctl close --source 127.0.0.3/32 -y -q
is "$(field .sessions)" 0 "none is left"
bench_end A
bench_end B
is "$(report A '[.lost, .wrong_bytes] | join(" ")') $(report B '[.lost, .wrong_bytes] | join(" ")')" "4 0 4 0" \
	"the clients saw just that"

# --- bpftool

live LIVE
dump() { bpftool -j map dump pinned "/sys/fs/bpf/cman/cman1/$1" 2> /dev/null | head -c 3000000; }
like "$(dump sessions)" '"client_fd"' "bpftool shows sessions by field names"
like "$(dump services)" '"name":.*"connect_timeout_s"|"connect_timeout_s"' "services"
like "$(bpftool map dump pinned /sys/fs/bpf/cman/cman1/cells 2> /dev/null | head -n 40)" 'role' "cells"
for map in counters listeners rules; do
	ok "/sys/fs/bpf/cman/cman1/$map is pinned" test -e /sys/fs/bpf/cman/cman1/$map
done

# --- shutdown

like "$(err ctl shutdown)" '^2 .*sessions' "with live sessions it asks; nobody can answer: exit 2"
ctl shutdown --drain 20 -q & drain=$!
draining() { [ "$(field .state)" = draining ]; }
ok "--drain waits" wait_for 3 draining
ok "nobody new is let in" "$PEER" connect 127.0.0.1:7001 refused
live_end LIVE "live sessions go on until they end"
wait $drain
is $? 0 "then it ends, exit 0"
is "$(find "$RUN" /sys/fs/bpf/cman -mindepth 1 ! -name '*.log' 2> /dev/null)" "" "nothing is left behind but the log"
ok "nor a process" wait_for 2 is_gone "$pid"

expired | conf
up
like "$(show events '.[] | select(.level == "warning") | .text')" "$T/cman.conf:11$late" \
	"an expired certificate is a warning of a start"
down
{ base; echo "}"; } | conf

up
"$PEER" connect 127.0.0.1:7001 text=hi expect=hi touch="$T/c2" reset & c=$!
wait_for 5 test -e "$T/c2"
ok "shutdown --abort" ctl shutdown --abort -q -y
wait $c
is $? 0 "resets the sessions"
up
rm -f "$T/c2"
"$PEER" connect 127.0.0.1:7001 text=hi expect=hi touch="$T/c2" reset & c=$!
wait_for 5 test -e "$T/c2"
like "$(ctl shutdown --drain 1 --abort --json)" '"sessions_closed": ?1[^0-9]' \
	"shutdown --drain 1 --abort waits, and says how many were left"
wait $c
is $? 0 "those are reset"
up
rm -f "$T/c2"
"$PEER" connect 127.0.0.1:7001 text=hi expect=hi touch="$T/c2" eof & c=$!
wait_for 5 test -e "$T/c2"
pid=$(field .pid)
kill -TERM "$pid"
wait $c
is $? 0 "SIGTERM closes the sessions"
ok "and ends the instance" wait_for 5 is_gone "$pid"

# --- no daemon, when_down = wait

up
kill_all
ok "all processes are dead: a service that refuses, refuses" "$PEER" connect 127.0.0.1:7001 refused
"$PEER" connect 127.0.0.1:7002 text=hi expect=hi touch="$T/in2" & waiting=$!
ok "a service that waits, waits" sleep 0.2
ok "nobody was refused" test -d /proc/$waiting -a ! -e "$T/in2"
ok "startup after the crash" ctl startup -q
wait $waiting
is $? 0 "who waited is let in"
ok "others too" hi 7001
down

# --- the manager and one whole cell are dead, the other cell lives

sed 's/gateways = 1/gateways = 2/' "$T/cman.conf" > "$T/two.conf"
grep -q 'gateways = 2' "$T/two.conf" || sed -i '0,/run_dir/s//gateways = 2\n    run_dir/' "$T/two.conf"
cp "$T/cman.conf" "$T/saved.conf"
cp "$T/two.conf" "$T/cman.conf"
up
"$BENCH" stream --connect 127.0.0.1:7001 --sessions 20 --ready-file "$T/half.ready" --json > "$T/half.json" 2> /dev/null &
half=$!
wait_for 5 test -s "$T/half.ready"
before=$(show gateways '.[1].sessions')
pids="$(field .pid) $(show gateways '.[0] | .pid, .keepers[] | values')"
# stopped first: nobody is replaced between two of the kills
# shellcheck disable=SC2086
kill -STOP $pids
# shellcheck disable=SC2086
kill -KILL $pids
ok "startup adopts the cell that lives" ctl startup -q
is "$(show gateways '.[1].sessions')" "$before" "with its sessions"
is "$(show gateways 'length')" 2 "and makes the dead one again"
ok "which serves" hi 7001
kill -TERM $half
wait $half
is "$(jq '.alive == '"$before"' and .wrong_bytes == 0' "$T/half.json")" true "only the dead cell's were lost"
down
cp "$T/saved.conf" "$T/cman.conf"

# --- two instances in one file

sed -n '/^instance/,$p' "$T/cman.conf" > "$T/one.conf"
sed 's/cman1/cman2/; s/:700/:701/' "$T/one.conf" >> "$T/cman.conf"
like "$(err ctl startup)" '^2 .*cman1, cman2' "two in one file: which one must be said"
ok "the first" ctl -c cman1 startup -q
ok "the second" ctl -c cman2 startup -q
ok "both serve" hi 7001
ok "both serve, indeed" hi 7011
ok "the first ends" ctl -c cman1 shutdown -q
ok "the second goes on" hi 7011
ok "it ends, too" ctl -c cman2 shutdown -q
cp "$T/one.conf" "$T/cman.conf"

# --- readiness, the foreground

"$PEER" notify "$T/notify" > "$T/notified" & notify=$!
wait_for 5 test -S "$T/notify"
NOTIFY_SOCKET=$T/notify "$CMAN_BIN/cmand" -f "$T/cman.conf" --foreground > "$T/fg.out" 2> "$T/fg.err" &
fg=$!
track $fg
wait $notify
is "$(grep -c READY=1 "$T/notified") $(sed -n 's/^MAINPID=//p' "$T/notified")" "1 $fg" \
	"--foreground: READY=1 and MAINPID are sent"
ok "it serves by then" hi 7001
is "$(field .pid)" "$fg" "in the process that was started"
is "$(grep -cvE '^<[0-7]>' "$T/fg.err")" 0 "it logs to stderr, with priorities"
kill -TERM $fg
wait $fg
is $? 0 "SIGTERM: exit 0"
like "$(err setpriv --reuid=nobody --clear-groups "$CMAN_BIN/cmand" -f "$T/cman.conf" --foreground)" \
	'^1 .*(root|ermission|privilege|CAP_|ermitted)' "without root: exit 1, says why"

# --- what cannot start

{ base | sed 's/7002/9001/'; echo "}"; } | conf
like "$(err ctl startup)" '^[12] .*127.0.0.1:9001' "an address that is taken: the reason is on stderr"
is "$(find "$RUN" /sys/fs/bpf/cman -mindepth 1 ! -name '*.log' 2> /dev/null)" "" "nothing is left of it"
{ base; echo '    user = "nosuchuser"'; echo "}"; } | conf
like "$(err ctl startup)" "^2 .*nosuchuser" "an unknown user: exit 2"
