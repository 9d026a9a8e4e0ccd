#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Secrets stay where they belong. Sessions with TLS on both legs live, move, survive killed gateways; what they
# really use (secrets, keys, IVs, from the peers' logs and a capture) and the private keys are looked for in
# all that an instance leaves or shows: run directory, logs, tables, status, journal, pinned maps, command
# lines, environments, core dumps. The same search finds them in the secret memory, where they have to be,
# and no longer when the sessions are over.
# timeout: 240

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_instance.sh"
. "$(dirname "$0")/../lib/certificates.sh"
need_cmd tcpdump openssl bpftool prlimit
SEARCH=$CMAN_TESTBIN/net/tls_secrets
CHECKER=$CMAN_TESTBIN/net/tls_nonces
[ -x "$SEARCH" ] && [ -x "$CHECKER" ] || bail "$CMAN_TESTBIN is not built"
[ -x "$CMAN_NEXT_BIN/cmand" ] || bail "$CMAN_NEXT_BIN/cmand is not built (make next)"

ulimit -c unlimited 2> /dev/null # also for the instance: nothing but itself shall prevent a core
VIA=(--via fd)
C=$T/cert KEYS=$T/peers.keys PCAP=$T/all.pcap NEEDLES=$T/needles
make_certificates "$C" || bail "no certificates"
conf <<END
instance cman1 {
    run_dir = "@RUN@"
    gateways = 2
    max_sessions = 200
    log_level = "debug"
    listener new {
        address = "127.0.0.1:7001"  service = "new"
        tls { certificate = "$C/server.pem"  key = "$C/server.key" }
    }
    service new {
        targets = { "127.0.0.1:9001" }
        tls { ca = "$C/ca.pem"  server_name = "localhost"  certificate = "$C/client.pem"  key = "$C/client.key" }
    }
    listener old {
        address = "127.0.0.1:7002"  service = "old"
        tls { certificate = "$C/server-rsa.pem"  key = "$C/server-rsa.key" }
    }
    service old {
        targets = { "127.0.0.1:9002" }
        tls { ca = "$C/ca.pem"  server_name = "localhost" }
    }
}
END

# --- what to look for

# private_key NAME: what is secret in it, and how its file says it
private_key() {
	# the numbers that "-text" shows as "priv:" or "prime1:", "privateExponent:", ...
	openssl pkey -in "$C/$1.key" -noout -text | awk -v name="key_of_$1" '
		/^[^ ]/ { on = /^(priv|privateExponent|prime[12]|exponent[12]|coefficient):/ ; out() }
		/^ / && on { gsub(/[ :]/, ""); hex = hex $0 }
		function out() { if (length(hex) > 32) print name, substr(hex, length(hex) % 4 + 1, 256); hex = "" }
		END { out() }'
	grep -v -- '-----' "$C/$1.key" | head -n -1 | tail -n +2 | sed "s/^/pem_of_$1 =/"
}
# needles: all that is known by now
needles() {
	# what is not complete yet, it says on stderr
	"$CHECKER" keys "$PCAP" "$KEYS" > "$NEEDLES.new" 2> "$NEEDLES.err" || bail "no keys: $(head -n 3 "$NEEDLES.new")"
	for k in server server-rsa client; do private_key $k; done >> "$NEEDLES.new"
	sort -u "$NEEDLES.new" > "$NEEDLES"
	grep -v '^key_of\|^pem_of' "$NEEDLES" > "$NEEDLES.sessions"
	grep '^key_of\|^pem_of' "$NEEDLES" > "$NEEDLES.private"
}
# memories NAME: the memfds of this name, of all processes, each once
memories() {
	local f
	for f in /proc/[0-9]*/fd/*; do
		[[ $(readlink "$f" 2> /dev/null) != "/memfd:$1 "* ]] || echo "$(stat -Lc %i "$f") $f"
	done | sort -u -k 1,1 | cut -d' ' -f2
}
# found_in NEEDLES FILE…: what is found there, one line each; empty: nothing
found_in() {
	"$SEARCH" "$@" 2>&1 && return
	[ $? = 1 ] || echo "the search failed"
}
# labels NEEDLES FILE…: how many of each label are found
labels() { found_in "$@" | sed 's/.*: \([^ ]*\) .*/\1/' | sort | uniq -c | awk '{ printf "%s %s, ", $2, $1 }'; }

# --- where to look

# collect DIR: everything that the instance shows
collect() {
	local d=$1 what pin p
	mkdir -p "$d"
	for what in sessions services rules gateways parameters events version; do
		ctl show $what > "$d/show.$what" 2>&1
		ctl show $what --json > "$d/show.$what.json" 2>&1
	done
	ctl status > "$d/status" 2>&1
	ctl status --json > "$d/status.json" 2>&1
	ctl journal dump > "$d/journal" 2>&1
	ctl journal dump --json > "$d/journal.json" 2>&1
	while read -r pin; do
		p=$d/map${pin//\//-}
		bpftool -j map dump pinned "$pin" > "$p.json" 2> "$p.err"
		bpftool map dump pinned "$pin" > "$p" 2>> "$p.err"
	done < <(find /sys/fs/bpf -type f)
	find "$RUN" -type f > "$d/files"
	for p in /proc/[0-9]*; do
		cat "$p/cmdline" "$p/environ" "$p/comm" > "$d/process.${p#/proc/}" 2> /dev/null
	done
}
# clean WHEN [FILE…]: nothing is found in what is shown, in the run directory, in these files
clean() {
	local when=$1 d
	shift
	d=$T/shown.${when// /-}
	local -a files
	needles
	collect "$d"
	mapfile -t files < "$d/files"
	is "$(found_in "$NEEDLES" "$d"/* "${files[@]}" "$@" | head -n 20)" "" \
		"$when: no secret in $(find "$d" -type f | wc -l) outputs, ${#files[@]} files of the run directory"
}

# --- sessions

tcpdump -Z root -i lo -n -U -s 262144 -B 32768 -w "$PCAP" \
	'tcp and (port 7001 or port 7002 or port 9001 or port 9002)' 2> "$T/tcpdump.err" & track $!
wait_for 5 grep -q 'listening on' "$T/tcpdump.err" || bail "tcpdump: $(cat "$T/tcpdump.err")"
serve NEW --listen 127.0.0.1:9001 --tls --tls-cert "$C/server.pem" --tls-key "$C/server.key" --tls-ca "$C/ca.pem" \
	--tls-keylog "$KEYS"
serve OLD --listen 127.0.0.1:9002 --tls --tls-cert "$C/server.pem" --tls-key "$C/server.key" --tls-version 1.2 \
	--tls-keylog "$KEYS"
up
CLIENT=(--tls --tls-ca "$C/ca.pem" --tls-name localhost --tls-keylog "$KEYS")
bench SAME stream -c 127.0.0.1:7001 "${CLIENT[@]}" -n 10 -i 10
bench UPDATED stream -c 127.0.0.1:7001 "${CLIENT[@]}" -n 5 -i 10 --tls-update 30
bench OLD_GCM stream -c 127.0.0.1:7002 "${CLIENT[@]}" --tls-cipher ECDHE-RSA-AES256-GCM-SHA384 -n 5 -i 10
bench OLD_CHACHA stream -c 127.0.0.1:7002 "${CLIENT[@]}" --tls-cipher ECDHE-RSA-CHACHA20-POLY1305 -n 5 -i 10
LOADS=(SAME UPDATED OLD_GCM OLD_CHACHA)
sleep 0.3

# --- the search can find

needles
diag "$(wc -l < "$NEEDLES.sessions") secrets of sessions, $(wc -l < "$NEEDLES.private") parts of private keys"
cmp_num "$(wc -l < "$NEEDLES.sessions")" '>' 300 "secrets, keys, IVs of the sessions are known"
cmp_num "$(wc -l < "$NEEDLES.private")" '>' 20 "and the private keys"
hexed() { awk '$2 !~ /^=/ { print $2; exit }' "$NEEDLES.sessions"; }
printf '%b' "$(hexed | sed 's/../\\x&/g')" > "$T/try.raw"
hexed | sed 's/../0x&,\n /g' > "$T/try.dump"
hexed | tr a-f A-F > "$T/try.upper"
{ printf xy; cat "$T/try.raw"; } | base64 -w 0 > "$T/try.base64"
for form in raw dump upper base64; do
	isnt "$(found_in "$NEEDLES" "$T/try.$form")" "" "the search finds: $form"
done
for k in server server-rsa client; do
	isnt "$(found_in "$NEEDLES.private" "$C/$k.key")" "" "and the file of the key of $k"
done
mapfile -t memory < <(memories cman-secret)
is "${#memory[@]}" 2 "each gateway has a secret memory"
there=$(labels "$NEEDLES.sessions" "${memory[@]}")
# both ways of both legs of 10 sessions of each version, and what has not been updated meanwhile
like "$there" '(^| )traffic_secret ([5-9][0-9]|[1-9][0-9]{2}),' "traffic secrets are in it: $there"
like "$there" '(^| )key [4-9][0-9],' "and keys of TLS 1.2"
is "$(found_in "$NEEDLES.private" "${memory[@]}")" "" "but no private key"
mapfile -t credentials < <(memories cman-credentials)
isnt "$(found_in "$NEEDLES.private" "${credentials[@]}")" "" "which is in the memory of the credentials"

# --- nowhere else

clean "sessions live"
for pid in $(field .pid) $(show gateways '.[].pid | values'); do
	flags=$(awk '/^[0-9a-f]+-/ { on = /memfd:cman-secret/ } on && /^VmFlags/' "/proc/$pid/smaps")
	like "$flags" ' dd ' "process $pid maps it so that no core has it"
	# where not all of it may be locked, its keys are
	like "$flags" ' lo ' "and locked"
done
killed=$(gateway_pid)
kill -KILL "$killed"
for i in 1 2 3; do
	for home in "$CMAN_NEXT_BUILD" "$CMAN_BUILD"; do
		ctl migrate --home "$home" "${VIA[@]}" --json > "$T/report.$i.json" 2> "$T/report.$i.err" ||
			not_ok "migration" "$(cat "$T/report.$i.err")"
		is "$(jq '[.moved, .failed] | join(" ")' -r "$T/report.$i.json")" "25 0" "all sessions have moved"
	done
done
is "$(memories cman-tls-state)" "" "what has carried them is closed"
is "$(memories cman-secret | wc -l)" 2 "so is the memory that they have left"
clean "after migrations" "$T"/report.*

# --- core dumps

# A gateway and a manager that crash. For comparison a process that may be dumped.
cores() { find "${folders[@]}" -maxdepth 1 -name 'core*' -type f -newer "$T/before" 2> /dev/null; }
manager=$(field .pid) crashed=$(gateway_pid)
folders=("$T")
for pid in $manager $crashed; do
	folders+=("$(readlink "/proc/$pid/cwd")")
	is "$(awk '/^Max core/ { print $5 }' "/proc/$pid/limits")" "$(ulimit -c)" "the limit of process $pid allows a core"
done
touch "$T/before"
(cd "$T" && exec sleep 60) & dumpable=$!
sleep 0.2
kill -SEGV $dumpable
wait $dumpable 2> /dev/null
if [ -n "$(cores)" ]; then
	ok "the machine writes core files: $(cores)"
	rm -f "$(cores)"
	kill -SEGV "$crashed"
	anew() { [ "$(gateway_pid)" != "$crashed" ] && is_gone "$crashed"; }
	ok "a gateway has crashed, its keeper makes another" wait_for 5 anew
	kill -SEGV "$manager"
	wait_for 5 is_gone "$manager"
	up
	wait_sessions 25
	is "$(cores)" "" "neither gateway nor manager leaves a core"
	clean "after crashes"
else
	diag "core files go elsewhere on this machine ($(cat /proc/sys/kernel/core_pattern)): not tested"
fi

# --- afterwards

for s in "${LOADS[@]}"; do
	bench_end "$s"
	is "$(report "$s" '[.ok, .lost] | join(" ")')" "true 0" "no session was lost: $s"
done
ok "all sessions end" wait_sessions 0
needles
mapfile -t memory < <(memories cman-secret)
is "$(found_in "$NEEDLES.sessions" "${memory[@]}" | head)" "" "nothing of them is left in the secret memory"
clean "after the sessions"
down
mapfile -t left < <(find "$RUN" -type f)
is "$(found_in "$NEEDLES" "${left[@]}" | head)" "" "nor in what the instance leaves"
