#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Limits: max_sessions of the instance and of a rule, timeouts of services and rules, descriptors,
# and the rules by source address. Whoever is over a limit is refused; nobody else notices.
# timeout: 120

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_instance.sh"
need_cmd prlimit

base() {
	cat <<END
instance cman1 {
    run_dir = "@RUN@"
    gateways = 2
    max_sessions = ${1:-10}
    listener echo { address = "127.0.0.1:7001"  service = "echo" }
    service echo { targets = { "127.0.0.1:9001" } }
    listener idle { address = "127.0.0.1:7002"  service = "idle" }
    service idle { targets = { "127.0.0.1:9001" }  idle_timeout = 1 }
    listener short { address = "127.0.0.1:7003"  service = "short" }
    service short { targets = { "127.0.0.1:9001" }  session_timeout = 2 }
END
}
serve ECHO --listen 127.0.0.1:9001
try() { "$PEER" connect 127.0.0.1:7001 ${1:+source=$1} text=hi expect=hi shut eof; }
nope() { "$PEER" connect 127.0.0.1:7001 ${1:+source=$1} reset; }

# --- max_sessions

{ base 10; echo "}"; } | conf
up
bench LIVE stream -c 127.0.0.1:7001 -n 10 -i 20
ok "ten live ones: the eleventh is reset" nope
is "$(field '[.sessions, .refused] | join(" ")')" "10 1" "counted"
"$BENCH" connrate -c 127.0.0.1:7001 -n 16 --warmup 0 -d 0.5 --json > "$T/over.json"
is "$(report over .connections)" 0 "nor does any of a crowd get in ($(report over .failures) were refused)"
is "$(field .sessions)" 10 "never more than ten"
ok "a limit that was raised is in force at once" ctl set max_sessions 10 -q
bench_end LIVE
is "$(report LIVE '[.ok, .alive, .lost, .wrong_bytes] | join(" ")')" "true 10 0 0" \
	"the ten did not notice"
ok "their places are free again" wait_sessions 0
bench LIVE stream -c 127.0.0.1:7001 -n 10 -i 20
is "$(field .sessions)" 10 "all of them"
bench_end LIVE
wait_sessions 0
# a crowd larger than the limit, all at the same moment, on both gateways
"$BENCH" idle -c 127.0.0.1:7001 -n 200 -d 0.3 --json > "$T/crowd.json" 2> /dev/null & pid=$!
most=0
while kill -0 $pid 2> /dev/null; do
	n=$(field .sessions)
	[ "$n" -le $most ] || most=$n
done
is "$most $(report crowd .alive)" "10 10" "a crowd of 200 at once: ten, never one more, never one less"
ok "set max_sessions 4" ctl set max_sessions 4 -q
wait_sessions 0
"$BENCH" idle -c 127.0.0.1:7001 -n 20 -d 0.1 --json > "$T/four.json" 2> /dev/null
is "$(report four .alive)" 4 "is in force for the next ones"
exits 2 "more than this instance has room for cannot be set" ctl set max_sessions 1000000
ctl set max_sessions 10 -q
wait_sessions 0

# --- timeouts

started=$(now_ms)
"$PEER" connect 127.0.0.1:7002 text=hi expect=hi eof touch="$T/idle.done" & idle=$!
"$PEER" connect 127.0.0.1:7003 text=hi expect=hi eof touch="$T/short.done" & short=$!
bench BUSY stream -c 127.0.0.1:7002 -n 2 -i 300 # talks more often than once a second
wait $idle
is $? 0 "idle_timeout: an idle session is closed"
took=$(($(now_ms) - started))
cmp_num $took '>=' 1000 "not before its second is over ($took ms)"
cmp_num $took '<' 3500 "and not long after"
wait $short
is $? 0 "session_timeout: the session is closed"
took=$(($(now_ms) - started))
cmp_num $took '>=' 2000 "not before its time ($took ms)"
cmp_num $took '<' 4500 "and not long after"
bench_end BUSY
is "$(report BUSY '[.ok, .lost] | join(" ")')" "true 0" "who talks is not idle"
down

# --- rules: longest prefix first, a named service before "*"

{
	base 50
	cat <<'END'
    rule all { source = "127.0.0.0/8"  action = "accept" }
    rule no { source = "127.0.1.0/24"  action = "reject" }
    rule yes { source = "127.0.1.5/32"  action = "accept" }
    rule silent { source = "127.0.2.0/24"  action = "drop" }
    rule few { source = "127.0.3.0/24"  action = "accept"  max_sessions = 3 }
    rule brief { source = "127.0.4.0/24"  action = "accept"  max_idle = 1 }
    rule here { source = "127.0.5.0/24"  action = "reject" }
    rule named { source = "127.0.5.0/24"  service = "echo"  action = "accept" }
}
END
} | conf
up
ok "accept" try 127.0.0.2
ok "reject: refused at once" "$PEER" connect 127.0.0.1:7001 source=127.0.1.4 refused
ok "a longer prefix wins" try 127.0.1.5
exits 124 "drop: no answer" timeout 0.7 "$PEER" connect 127.0.0.1:7001 source=127.0.2.9
ok "a rule for the service wins over one for all" try 127.0.5.1
ok "which holds for other services" "$PEER" connect 127.0.0.1:7003 source=127.0.5.1 refused
exits 1 "no rule matches: refused" "$PEER" connect "[::1]:7001" text=hi
is "$(show services '.[0] | [.rejected, (.dropped > 0)] | join(" ")')" "1 true" \
	"rejected and dropped are counted for the service"
"$BENCH" idle -c 127.0.0.1:7001 --source 127.0.3.1 --source 127.0.3.2 -n 10 -d 0.2 --json > "$T/few.json" \
	2> /dev/null
is "$(report few .alive)" 3 "max_sessions of a rule: three of ten"
wait_sessions 0
bench FEW stream -c 127.0.0.1:7001 --source 127.0.3.1 -n 3 -i 20
ok "the fourth is reset" nope 127.0.3.2
is "$(show rules '.[] | select(.name == "few") | .sessions')" 3 "show rules counts them"
ok "others are not concerned" try 127.0.0.2
bench_end FEW
is "$(report FEW '[.ok, .lost] | join(" ")')" "true 0" "the three did not notice"
started=$(now_ms)
ok "max_idle of a rule" "$PEER" connect 127.0.0.1:7001 source=127.0.4.1 text=hi expect=hi eof
took=$(($(now_ms) - started))
cmp_num $took '>=' 1000 "after its second, not before ($took ms)"
cmp_num $took '<' 3500 "and soon after"

# rules that come and go change which line is whose: live sessions stay with theirs
bench OLD stream -c 127.0.0.1:7001 --source 127.0.3.1 -n 3 -i 2000
sed -i 's|rule all .*|&\n    rule host { source = "127.0.9.9/32"  action = "accept"  max_idle = 1 }\n    rule host2 { source = "127.0.9.8/32"  action = "accept"  max_idle = 1  max_sessions = 1 }|' \
	"$T/cman.conf"
ok "a reload with two longer prefixes" ctl reload -q
is "$(show rules '.[] | select(.name == "few" or .name == "brief" or .name == "host") | "\(.name) \(.sessions)"' |
	sort | tr '\n' ' ')" "brief 0 few 3 host 0 " "sessions are counted for the rule that lets them in"
ok "whose limit still holds" nope 127.0.3.2
"$PEER" connect 127.0.0.1:7001 source=127.0.9.9 text=hi expect=hi eof # idle for its second, closed
is "$(field .sessions)" 3 "another rule's max_idle does not close them"
sed -i '/rule few/d' "$T/cman.conf"
ok "a reload without their rule" ctl reload -q
is "$(show rules '.[] | select(.name == "all") | .sessions')" 3 "they belong to the next shorter prefix"
bench_end OLD
is "$(report OLD '[.ok, .lost, .wrong_bytes] | join(" ")')" "true 0 0" "and lived through it all"
wait_sessions 0
is "$(show rules 'map(.sessions) | add')" 0 "no rule counts sessions that are gone"
down

# --- descriptors

{ base 5000; echo "}"; } | conf
prlimit --nofile=400:400 "$CTL" -f "$T/cman.conf" startup -q < /dev/null || bail "no start with 400 descriptors"
bench LIVE stream -c 127.0.0.1:7001 -n 50 -i 20
"$BENCH" idle -c 127.0.0.1:7001 -n 600 -d 0.5 --json > "$T/nofile.json" 2> /dev/null
alive=$(report nofile .alive)
cmp_num "$alive" '<' 400 "out of descriptors: $alive of 600 sessions get in"
cmp_num "$alive" '>' 100 "and not few"
is "$(report nofile '[.timeouts, .wrong_bytes] | join(" ")')" "0 0" "the others are refused, none hangs"
bench_end LIVE
is "$(report LIVE '[.ok, .alive, .lost, .wrong_bytes] | join(" ")')" "true 50 0 0" \
	"live ones are not harmed"
wait_sessions 0
bench LIVE stream -c 127.0.0.1:7001 -n 100 -i 20 -d 0.5
wait "$LIVE_PID"
is "$(report LIVE '[.ok, .alive, .lost, .wrong_bytes] | join(" ")')" "true 100 0 0" \
	"and there is room again afterwards"
is "$(sum lost) $(sum recoveries)" "0 0" "no gateway was replaced"
down
