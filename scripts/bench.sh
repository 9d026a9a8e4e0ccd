#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Measures cman's relay against haproxy (TCP mode) and nginx (stream), with no relay ("direct") as
# the baseline. Every column lives in a network namespace of its own, so that TIME_WAIT sockets,
# ports and socket lookup programs of one cannot touch another. A pass starts all relays afresh and
# measures the columns one after the other for each figure, in rotating order; ratios are formed
# within a pass. A missing program is said and its column left out.
# The measures tls_... have TLS 1.3 with AES-128-GCM between client and relay and none behind it, with
# the same P-256 certificate; cman's gateways encrypt themselves (engine = "user").
# Needs root, util-linux, iproute2, awk and, for TLS, openssl.
#
# usage: bench.sh [--quick] [--passes N] [--measures LIST] [--sockmap] [--json FILE]
# LIST: measures, or the words plain and tls for all of a kind.
# --sockmap adds a column: cman whose services have splice = "sockmap".
# environment: CMAN_BUILD (default: build), CMAN_BENCH (default: $CMAN_BUILD/bin/cman-bench)

# Functions are called through wait_for and traps.
# shellcheck disable=SC2317
set -u -o pipefail

PLAIN_MEASURES="idle rtt down1 down16 up1 up16 fin1 fin4 rst1 rst4"
TLS_MEASURES="tls_idle tls_rtt tls_down16 tls_up16 tls_full4 tls_resume4"
quick=0
sockmap=0
passes=
measures="plain tls"
json=

die()
{
	echo "bench.sh: $*" >&2
	exit 2
}

args=("$@")
while [ $# -gt 0 ]; do
	case $1 in
	--quick) quick=1 ;;
	--passes) passes=${2-}; shift ;;
	--measures) measures=${2//,/ }; shift ;;
	--sockmap) sockmap=1 ;;
	--json) json=${2-}; [ -n "$json" ] || die "--json needs a file"; shift ;;
	-h | --help) sed -n '4,16s/^# \{0,1\}//p' "$0"; exit 0 ;;
	*) die "no option $1; the options are --quick --passes N --measures LIST --sockmap --json FILE" ;;
	esac
	shift || die "the last option needs a value"
done
wanted=
for m in $measures; do
	case " $PLAIN_MEASURES $TLS_MEASURES plain tls " in
	*" $m "*) ;;
	*) die "--measures: '$m' is not plain, tls or one of $PLAIN_MEASURES $TLS_MEASURES" ;;
	esac
	case $m in
	plain) wanted+=" $PLAIN_MEASURES" ;;
	tls) wanted+=" $TLS_MEASURES" ;;
	*) wanted+=" $m" ;;
	esac
done
measures=${wanted# }
if [ "$quick" = 1 ]; then
	passes=${passes:-3}
	seconds=0.5
	warmup=0.2
	idle_sessions=1000
else
	passes=${passes:-5}
	seconds=2
	warmup=0.5
	idle_sessions=4000
fi
tls_idle_sessions=2000
case $passes in
'' | *[!0-9]* | 0) die "--passes: '$passes' is not a number above 0" ;;
esac

certificates=$(realpath "$(dirname "$0")/../selftests/lib/certificates.sh")
build=$(realpath -m "${CMAN_BUILD:-build}")
bench=${CMAN_BENCH:-$build/bin/cman-bench}
[ -x "$bench" ] || die "$bench is not there: build it, or set CMAN_BUILD or CMAN_BENCH"
bench=$(realpath "$bench")
[ -z "$json" ] || json=$(realpath -m "$json")

if [ "${CMAN_BENCH_INSIDE-}" != 1 ]; then
	[ "$(id -u)" = 0 ] || die "needs root, for namespaces of its own"
	exec env CMAN_BENCH_INSIDE=1 CMAN_BUILD="$build" CMAN_BENCH="$bench" \
		unshare -n -m --propagation private -- bash "$0" "${args[@]+"${args[@]}"}"
fi

# ---- inside the namespaces ----

tmp=$(mktemp -d /tmp/cman-bench.XXXXXX) || exit 1
pids=()			# what we started: ended by pid, last first
declare -A holder	# column -> process that keeps its network namespace
declare -A relay	# column -> process id of a running peer
columns=(direct)

cleanup()
{
	local column i

	trap - EXIT INT TERM
	for column in "${columns[@]}"; do
		stop_relay "$column"
	done
	for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
		kill "${pids[i]}" 2>/dev/null
	done
	wait 2>/dev/null
	rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The first two processors that we may use.
expand_cpus()
{
	awk '/^Cpus_allowed_list:/ {
		n = split($2, part, ",")
		for (i = 1; i <= n; i++) {
			m = split(part[i], range, "-")
			for (c = range[1]; c <= range[m]; c++)
				print c
		}
	}' /proc/self/status
}
mapfile -t cpus < <(expand_cpus)
load_cpu=${cpus[0]}
relay_cpu=${cpus[1]:-${cpus[0]}}
[ "${#cpus[@]}" -ge 2 ] ||
	echo "bench.sh: only one processor: throughput and connection rates say little" >&2

# in_column COLUMN CPU COMMAND...: becomes the command; no process in between
in_column()
{
	local column=$1 cpu=$2

	shift 2
	exec nsenter --net="/proc/${holder[$column]}/ns/net" -- taskset -c "$cpu" "$@"
}

wait_for()
{
	local i

	for ((i = 0; i < 100; i++)); do
		"$@" && return 0
		sleep 0.05
	done
	return 1
}

# Ports are the same in every namespace: servers on 70xx, relays on 80xx; with TLS 71xx and 81xx.
declare -A port=([rtt]=01 [fin]=02 [rst]=03 [down]=04 [up]=05 [idle]=06)

# address COLUMN SERVICE [tls]
address()
{
	local place=80

	[ "$1" != direct ] || place=70
	[ -z "${3-}" ] || place=$((place + 1))
	echo "127.0.0.1:$place${port[$2]}"
}

new_server()
{
	local column=$1 cpu=$2 name=$3

	shift 3
	(in_column "$column" "$cpu" "$bench" serve "$@" --ready-file "$tmp/$column.$name") \
		>"$tmp/$column.$name.log" 2>&1 &
	pids+=($!)
	wait_for test -s "$tmp/$column.$name" || die "the $name server of $column does not start"
}

separate_namespace()
{
	[ "$(readlink "/proc/$1/ns/net")" != "$(readlink "/proc/$$/ns/net")" ]
}

new_column()
{
	local column=$1
	local tls=(--tls --tls-cert "$tmp/cert/server.pem" --tls-key "$tmp/cert/server.key")

	unshare -n sleep infinity &
	holder[$column]=$!
	pids+=($!)
	wait_for separate_namespace "${holder[$column]}" || die "no network namespace"
	(in_column "$column" "$load_cpu" bash -c '
		ip link set lo up &&
		echo 10240 65535 >/proc/sys/net/ipv4/ip_local_port_range &&
		echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse &&
		echo 4096 >/proc/sys/net/core/somaxconn') || die "cannot set up $column"
	new_server "$column" "$relay_cpu" rtt --listen "127.0.0.1:70${port[rtt]}"
	new_server "$column" "$load_cpu" echo --listen "127.0.0.1:70${port[fin]}" \
		--listen "127.0.0.1:70${port[rst]}" --listen "127.0.0.1:70${port[idle]}"
	new_server "$column" "$load_cpu" source --mode source --zero-copy \
		--listen "127.0.0.1:70${port[down]}"
	new_server "$column" "$load_cpu" sink --mode sink --discard \
		--listen "127.0.0.1:70${port[up]}"
	[ "$column" = direct ] && [ "$with_tls" = 1 ] || return 0
	new_server "$column" "$relay_cpu" tls_rtt "${tls[@]}" --listen "127.0.0.1:71${port[rtt]}"
	new_server "$column" "$load_cpu" tls_echo "${tls[@]}" --listen "127.0.0.1:71${port[fin]}"
	new_server "$column" "$load_cpu" tls_source "${tls[@]}" --mode source \
		--listen "127.0.0.1:71${port[down]}"
	new_server "$column" "$load_cpu" tls_sink "${tls[@]}" --mode sink \
		--listen "127.0.0.1:71${port[up]}"
}

# ---- the relays ----

# configure_cman COLUMN SPLICE
configure_cman()
{
	local column=$1 splice=$2 name

	mkdir -p "$tmp/run"
	{
		echo "instance bench_$column {"
		echo "    run_dir = \"$tmp/run\""
		echo "    gateways = 1"
		echo "    max_sessions = 9000"
		echo "    log_level = \"warning\""
		for name in "${!port[@]}"; do
			echo "    listener l_$name { address = \"127.0.0.1:80${port[$name]}\"" \
				"service = \"s_$name\" }"
			[ "$with_tls" = 0 ] ||
				echo "    listener t_$name { address = \"127.0.0.1:81${port[$name]}\"" \
					"service = \"s_$name\" tls { engine = \"user\"" \
					"certificate = \"$tmp/cert/server.pem\"" \
					"key = \"$tmp/cert/server.key\" } }"
			echo "    service s_$name { targets = { \"127.0.0.1:70${port[$name]}\" }" \
				"splice = \"$splice\" }"
		done
		echo "}"
	} >"$tmp/$column.conf"
}

configure_haproxy()
{
	local name

	{
		echo "global"
		echo "	nbthread 1"
		echo "	maxconn 9000"
		echo "defaults"
		echo "	mode tcp"
		echo "	maxconn 9000"
		echo "	backlog 4096"
		echo "	timeout connect 5s"
		echo "	timeout client 600s"
		echo "	timeout server 600s"
		for name in "${!port[@]}"; do
			echo "listen $name"
			echo "	bind 127.0.0.1:80${port[$name]}"
			[ "$with_tls" = 0 ] ||
				echo "	bind 127.0.0.1:81${port[$name]} ssl crt $tmp/cert/both.pem"
			echo "	server s 127.0.0.1:70${port[$name]}"
		done
	} >"$tmp/haproxy.cfg"
}

nginx_module=
find_nginx_module()
{
	local f

	nginx -V 2>&1 | grep -q -e '--with-stream\( \|$\)' && return 0
	for f in /usr/lib/nginx/modules/ngx_stream_module.so \
		/usr/lib64/nginx/modules/ngx_stream_module.so; do
		[ -e "$f" ] && nginx_module=$f && return 0
	done
	return 1
}

configure_nginx()
{
	local name

	{
		[ -z "$nginx_module" ] || echo "load_module $nginx_module;"
		echo "daemon off;"
		echo "worker_processes 1;"
		echo "worker_rlimit_nofile $(ulimit -Hn);"
		echo "pid $tmp/nginx.pid;"
		echo "error_log $tmp/nginx.err warn;"
		echo "events { worker_connections 19000; }"
		echo "stream {"
		if [ "$with_tls" = 1 ]; then
			echo "	ssl_protocols TLSv1.2 TLSv1.3;"
			echo "	ssl_certificate $tmp/cert/server.pem;"
			echo "	ssl_certificate_key $tmp/cert/server.key;"
		fi
		for name in "${!port[@]}"; do
			echo "	server {"
			echo "		listen 127.0.0.1:80${port[$name]} backlog=4096;"
			[ "$with_tls" = 0 ] ||
				echo "		listen 127.0.0.1:81${port[$name]} ssl backlog=4096;"
			echo "		proxy_pass 127.0.0.1:70${port[$name]};"
			echo "		proxy_timeout 600s;"
			# Without it nginx closes both ways at the first FIN and loses the rest.
			echo "		proxy_half_close on;"
			echo "	}"
		done
		echo "}"
	} >"$tmp/nginx.conf"
}

# Processes of the column's relay: those in its namespace that run its program.
relay_pids()
{
	local column=$1 program=$1 ns p list=

	case $column in
	cman | sockmap) program=cmand ;;
	esac
	ns=$(readlink "/proc/${holder[$column]}/ns/net")
	for p in /proc/[0-9]*; do
		[ "$(readlink "$p/ns/net" 2>/dev/null)" = "$ns" ] || continue
		case $(readlink "$p/exe" 2>/dev/null) in
		*/"$program" | */"$program (deleted)") list+=,${p#/proc/} ;;
		esac
	done
	echo "${list#,}"
}

relay_answers()
{
	(in_column "$1" "$load_cpu" "$bench" probe --connect "$(address "$1" rtt)" --rate 20 \
		--duration 0.01 --connect-timeout 1 --timeout 1) >/dev/null 2>&1
}

# Each relay has a session of its own, as a daemon has: the scheduler groups processes by session.
start_relay()
{
	local column=$1

	case $column in
	direct) return 0 ;;
	cman | sockmap)
		(in_column "$column" "$relay_cpu" "$build/bin/cmanctl" startup -f "$tmp/$column.conf") \
			>"$tmp/$column.log" 2>&1 || {
			echo "bench.sh: cmanctl startup failed:" >&2
			cat "$tmp/$column.log" >&2
			return 1
		}
		;;
	haproxy)
		(in_column haproxy "$relay_cpu" setsid haproxy -db -f "$tmp/haproxy.cfg") \
			>"$tmp/haproxy.log" 2>&1 &
		relay[$column]=$!
		;;
	nginx)
		(in_column nginx "$relay_cpu" setsid nginx -c "$tmp/nginx.conf" \
			-e "$tmp/nginx.err") \
			>"$tmp/nginx.log" 2>&1 &
		relay[$column]=$!
		;;
	esac
	wait_for relay_answers "$column" && return 0
	echo "bench.sh: $column does not answer:" >&2
	cat "$tmp/$column.log" >&2
	return 1
}

is_gone()
{
	[ -z "$(relay_pids "$1")" ]
}

stop_relay()
{
	local column=$1 p list

	[ -n "${holder[$column]-}" ] || return 0
	case $column in
	direct) return 0 ;;
	cman | sockmap)
		[ -z "$(relay_pids "$column")" ] ||
			(in_column "$column" "$relay_cpu" "$build/bin/cmanctl" shutdown --abort -y \
				-f "$tmp/$column.conf") >>"$tmp/$column.log" 2>&1
		;;
	*)
		[ -z "${relay[$column]-}" ] || kill "${relay[$column]}" 2>/dev/null
		relay[$column]=
		;;
	esac
	wait_for is_gone "$column" && return 0
	list=$(relay_pids "$column")
	echo "bench.sh: $column did not end; killing ${list//,/ }" >&2
	for p in ${list//,/ }; do
		kill -KILL "$p" 2>/dev/null
	done
	wait_for is_gone "$column"
}

# ---- measuring ----

# run CPU COLUMN SERVICE VERB OPTION...: cman-bench's lines in $tmp/out. With --tls: to the port for it.
run()
{
	local cpu=$1 column=$2 service=$3 verb=$4 list secure=

	shift 4
	[[ " $* " != *" --tls "* ]] || secure=tls
	list=$(relay_pids "$column")
	(in_column "$column" "$cpu" "$bench" "$verb" \
		--connect "$(address "$column" "$service" "$secure")" \
		${list:+--cpu-of "$list"} "$@") >"$tmp/out" 2>"$tmp/err"
}

value()
{
	awk -v key="$1" '$1 == key { print $2; found = 1 } END { if (!found) print "-" }' "$tmp/out"
}

# nginx ends its streams without close_notify, which cman-bench counts as lost: after what is measured.
only_unclosed()
{
	[ "$2" = nginx ] && [[ $1 == tls_* ]] && [ -s "$tmp/err" ] &&
		! grep -qv -e '^ready ' -e 'without close_notify$' -e 'only counted$' "$tmp/err" &&
		[ "$(value wrong_bytes)" = 0 ]
}

# record PASS MEASURE COLUMN FIGURE CPU_FIGURE, of the last run, whose exit status is $6
record()
{
	local cpu=-

	if [ "$6" != 0 ] && ! only_unclosed "$2" "$3"; then
		echo "bench.sh: $2 of $3 failed in pass $1:" >&2
		cat "$tmp/err" >&2
		grep -E '^(incidents|lost|failures|refused|resets|timeouts|early_eofs|wrong)' \
			"$tmp/out" | head -12 >&2
		echo "$1 $2 $3 - -" >>"$tmp/results"
		return
	fi
	[ "$5" = - ] || [ "$3" = direct ] || cpu=$(value "$5")
	echo "$1 $2 $3 $(value "$4") $cpu" >>"$tmp/results"
}

measure()
{
	local pass=$1 measure=$2 column=$3 digits=${2##*[a-z]}
	local name=${2%"$digits"} n=${digits:-1}
	local time=(--duration "$seconds" --warmup "$warmup")
	local tls=(--tls --tls-cipher TLS_AES_128_GCM_SHA256)

	# such sessions are not spliced
	case $column.$name in
	sockmap.tls_*) return 0 ;;
	esac
	case $name in
	idle)
		[ "$column" != direct ] || return 0
		# What is allocated once does not belong to the sessions.
		run "$load_cpu" "$column" idle idle --sessions 50 --duration 0.1
		run "$load_cpu" "$column" idle idle --sessions "$idle_sessions" --duration 0.1 \
			--warmup 0.5
		record "$pass" "$measure" "$column" rss_per_session_bytes pss_per_session_bytes $?
		;;
	rtt)
		run "$relay_cpu" "$column" rtt pingpong --size 64 "${time[@]}"
		record "$pass" "$measure" "$column" latency_us.p50 cpu_us_per_operation $?
		;;
	down)
		run "$load_cpu" "$column" down bulk --direction down --connections "$n" --discard \
			"${time[@]}"
		record "$pass" "$measure" "$column" gbit_per_s cpu_s_per_gb $?
		;;
	up)
		run "$load_cpu" "$column" up bulk --direction up --connections "$n" --zero-copy \
			"${time[@]}"
		record "$pass" "$measure" "$column" gbit_per_s cpu_s_per_gb $?
		;;
	fin | rst)
		run "$load_cpu" "$column" "$name" connrate --close "$name" --clients "$n" \
			--size 64 "${time[@]}"
		record "$pass" "$measure" "$column" connections_per_s cpu_us_per_connection $?
		;;
	tls_idle)
		[ "$column" != direct ] || return 0
		# A fresh start: no memory of other sessions that these could use again.
		stop_relay "$column"
		start_relay "$column" || return 0
		for n in 50 "$tls_idle_sessions"; do
			run "$load_cpu" "$column" idle idle "${tls[@]}" --sessions "$n" \
				--duration 0.1 --warmup 5
		done
		record "$pass" "$measure" "$column" rss_per_session_bytes pss_per_session_bytes $?
		;;
	tls_rtt)
		run "$relay_cpu" "$column" rtt pingpong "${tls[@]}" --size 64 "${time[@]}"
		record "$pass" "$measure" "$column" latency_us.p50 cpu_us_per_operation $?
		;;
	tls_down | tls_up)
		run "$load_cpu" "$column" "${name#tls_}" bulk "${tls[@]}" \
			--direction "${name#tls_}" --connections "$n" "${time[@]}"
		record "$pass" "$measure" "$column" gbit_per_s cpu_s_per_gb $?
		;;
	tls_full | tls_resume)
		[ "$name" = tls_full ] || tls+=(--tls-resume)
		run "$load_cpu" "$column" fin connrate "${tls[@]}" --close fin --clients "$n" \
			--size 64 "${time[@]}"
		record "$pass" "$measure" "$column" connections_per_s cpu_us_per_connection $?
		;;
	esac
}

describe()
{
	echo "kernel     $(uname -r)"
	echo "processor  $(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)"
	echo "pinned     relay on CPU $relay_cpu; load and servers on CPU $load_cpu;" \
		"round trip all on CPU $relay_cpu"
	echo "bulk       servers and clients neither copy in (sendfile) nor out (MSG_TRUNC)"
	[ "$with_tls" = 0 ] ||
		echo "TLS        $(openssl version | cut -d' ' -f1-2); clients do encrypt"
	echo "passes     $passes of $seconds s after $warmup s, interleaved; min / median / max"
	echo "load       $(cut -d' ' -f1-3 /proc/loadavg) before the run"
	awk '{ exit !($1 > 0.5) }' /proc/loadavg &&
		echo "           other programs are running: do not trust figures of this run"
	[ "${#skipped[@]}" = 0 ] || printf 'left out   %s\n' "${skipped[@]}"
	echo
}

# One awk program reads the results and prints tables, goals and the JSON document.
report()
{
	awk -v order="$measures" -v names="${columns[*]}" -v passes="$passes" -v json="$json" \
		-v quick="$quick" -v kernel="$(uname -r)" -v idle="$idle_sessions" \
		-v tls_idle="$tls_idle_sessions" '
	function put(pass, m, c, kind, v) { val[pass, m, c, kind] = v }
	function has(pass, m, c, kind) {
		return (pass, m, c, kind) in val && val[pass, m, c, kind] != "-"
	}
	# Sorted values of one cell into s[1..n].
	function gather(m, c, kind,    p, i, t) {
		n = 0
		for (p = 1; p <= passes; p++) {
			if (!has(p, m, c, kind))
				continue
			t = val[p, m, c, kind] + 0
			for (i = n; i > 0 && s[i] > t; i--)
				s[i + 1] = s[i]
			s[i + 1] = t
			n++
		}
		return n
	}
	# Ratio of two columns within each pass, sorted into s[1..n].
	function ratios(m, a, b, kind,    p, i, t) {
		n = 0
		for (p = 1; p <= passes; p++) {
			if (!has(p, m, a, kind) || !has(p, m, b, kind) || !(val[p, m, b, kind] + 0))
				continue
			t = val[p, m, a, kind] / val[p, m, b, kind]
			for (i = n; i > 0 && s[i] > t; i--)
				s[i + 1] = s[i]
			s[i + 1] = t
			n++
		}
		return n
	}
	function median() { return n % 2 ? s[(n + 1) / 2] : (s[n / 2] + s[n / 2 + 1]) / 2 }
	function number(v) {
		if (v >= 1000 || v <= -1000)
			return sprintf("%.0f", v)
		return sprintf(v >= 100 ? "%.1f" : "%.2f", v)
	}
	function spread() {
		return n ? number(s[1]) " / " number(median()) " / " number(s[n]) : "-"
	}
	function member(first, key, v) {
		out = out (first ? "" : ", ") "\"" key "\": " v
	}
	function triple() {
		return sprintf("{\"min\": %.6g, \"median\": %.6g, \"max\": %.6g, \"passes\": %d}",
			       s[1], median(), s[n], n)
	}
	function table(kind, title,    i, k, m) {
		printf "%s\n", title
		printf "  %-34s", ""
		for (k = 1; k <= nc; k++)
			printf " %25s", col[k]
		printf "\n"
		for (i = 1; i <= nm; i++) {
			m = meas[i]
			if (label[m, kind] == "")
				continue
			printf "  %-34s", label[m, kind]
			for (k = 1; k <= nc; k++) {
				gather(m, col[k], kind)
				printf " %25s", spread()
			}
			printf "\n"
		}
		printf "\n"
	}
	# All ratios are to haproxy when it is there, else to the first peer.
	function ratio_table(kind, title,    i, k, m) {
		if (base == "")
			return
		printf "%s\n", title
		printf "  %-34s", ""
		for (k = 1; k <= nc; k++) {
			if (col[k] != base)
				printf " %25s", col[k] "/" base
		}
		printf "\n"
		for (i = 1; i <= nm; i++) {
			m = meas[i]
			if (label[m, kind] == "")
				continue
			printf "  %-34s", label[m, kind]
			for (k = 1; k <= nc; k++) {
				if (col[k] == base)
					continue
				ratios(m, col[k], base, kind)
				printf " %25s", spread()
			}
			printf "\n"
		}
		printf "\n"
	}
	function goal(name, limit, lower, known, v,    met) {
		if (!known)
			met = "not measured"
		else
			met = (lower ? v <= limit + 0 : v >= limit + 0) ? "met" : "missed"
		printf "  %-58s %s %-6s %10s  %s\n", name, lower ? "<=" : ">=", limit,
			known ? number(v) : "-", met
		goals = goals (goals == "" ? "" : ", ") \
			sprintf("\n  {\"goal\": \"%s\", \"limit\": %s, ", name, limit) \
			sprintf("\"measured\": %s, ", known ? sprintf("%.6g", v) : "null") \
			sprintf("\"result\": \"%s\"}", met)
	}
	# cman against whichever peer moves more bytes in the pass: throughput and CPU per GB.
	function better_peer(m, kind,    p, b, t, i) {
		n = 0
		for (p = 1; p <= passes; p++) {
			b = ""
			if (has(p, m, "haproxy", "figure"))
				b = "haproxy"
			t = has(p, m, "nginx", "figure") ? val[p, m, "nginx", "figure"] + 0 : 0
			if (t && (b == "" || t > val[p, m, b, "figure"] + 0))
				b = "nginx"
			if (b == "" || !has(p, m, "cman", kind) || !(val[p, m, b, kind] + 0))
				continue
			t = val[p, m, "cman", kind] / val[p, m, b, kind]
			for (i = n; i > 0 && s[i] > t; i--)
				s[i + 1] = s[i]
			s[i + 1] = t
			n++
		}
		return n
	}
	BEGIN {
		nm = split(order, meas, " ")
		nc = split(names, col, " ")
		for (i = 1; i <= nc; i++) {
			if (col[i] == "haproxy" || (col[i] == "nginx" && base == ""))
				base = col[i]
		}
		label["rtt", "figure"] = "round trip 64 B, p50, us"
		label["rtt", "cpu"] = "CPU us per round trip"
		for (i = 1; i <= 16; i += 15) {
			label["down" i, "figure"] = "bulk down, " i " connections, Gbit/s"
			label["up" i, "figure"] = "bulk up, " i " connections, Gbit/s"
			label["down" i, "cpu"] = "CPU s per GB down, " i " connections"
			label["up" i, "cpu"] = "CPU s per GB up, " i " connections"
		}
		for (i = 1; i <= 4; i += 3) {
			label["fin" i, "figure"] = "connections/s, FIN, " i " clients"
			label["rst" i, "figure"] = "connections/s, RST, " i " clients"
			label["fin" i, "cpu"] = "CPU us per conn., FIN, " i " clients"
			label["rst" i, "cpu"] = "CPU us per conn., RST, " i " clients"
		}
		label["idle", "figure"] = "RSS bytes per idle session"
		label["idle", "cpu"] = "PSS bytes per idle session"
		label["tls_idle", "figure"] = "TLS: RSS bytes per idle session"
		label["tls_idle", "cpu"] = "TLS: PSS bytes per idle session"
		label["tls_rtt", "figure"] = "TLS: round trip 64 B, p50, us"
		label["tls_rtt", "cpu"] = "TLS: CPU us per round trip"
		label["tls_down16", "figure"] = "TLS: bulk down, 16 conn., Gbit/s"
		label["tls_down16", "cpu"] = "TLS: CPU s per GB down, 16 conn."
		label["tls_up16", "figure"] = "TLS: bulk up, 16 conn., Gbit/s"
		label["tls_up16", "cpu"] = "TLS: CPU s per GB up, 16 conn."
		label["tls_full4", "figure"] = "TLS: full handshakes/s, 4 clients"
		label["tls_full4", "cpu"] = "TLS: CPU us per full handshake"
		label["tls_resume4", "figure"] = "TLS: resumptions/s, 4 clients"
		label["tls_resume4", "cpu"] = "TLS: CPU us per resumption"
	}
	{ put($1, $2, $3, "figure", $4); put($1, $2, $3, "cpu", $5) }
	END {
		table("figure", "Figures")
		table("cpu", "Cost of the relay (all its processes)")
		ratio_table("figure", "Figures, ratio within each pass")
		ratio_table("cpu", "Cost, ratio within each pass")

		print "Goals (medians)"
		ratios("rtt", "cman", "haproxy", "figure")
		goal("round trip, cman/haproxy", "0.88", 1, n, n ? median() : 0)
		for (k = 1; k <= 4; k += 3) {
			ratios("fin" k, "cman", "haproxy", "figure")
			goal("connections/s closed by FIN, " k " clients, cman/haproxy",
			     k == 1 ? "1.25" : "1.15", 0, n, n ? median() : 0)
			ratios("rst" k, "cman", "haproxy", "figure")
			goal("connections/s closed by RST, " k " clients, cman/haproxy",
			     k == 1 ? "1.25" : "1.15", 0, n, n ? median() : 0)
		}
		better_peer("down16", "figure")
		goal("bulk down 16, cman/better peer", "1.4", 0, n, n ? median() : 0)
		better_peer("down16", "cpu")
		goal("bulk down 16, CPU per GB, cman/that peer", "0.5", 1, n, n ? median() : 0)
		better_peer("up16", "figure")
		goal("bulk up 16, cman/better peer", "1.4", 0, n, n ? median() : 0)
		better_peer("up16", "cpu")
		goal("bulk up 16, CPU per GB, cman/that peer", "0.5", 1, n, n ? median() : 0)
		gather("idle", "cman", "figure")
		goal("RSS bytes per idle session, cman", "200", 1, n, n ? median() : 0)
		gather("tls_idle", "cman", "figure")
		goal("RSS bytes per idle TLS session, cman", "1024", 1, n, n ? median() : 0)

		if (json == "")
			exit
		out = "{"
		member(1, "kernel", "\"" kernel "\"")
		member(0, "quick", quick ? "true" : "false")
		member(0, "passes", passes)
		member(0, "idle_sessions", idle)
		member(0, "tls_idle_sessions", tls_idle)
		out = out ", \"measures\": {"
		for (i = 1; i <= nm; i++) {
			m = meas[i]
			out = out (i > 1 ? ", " : "") "\n  \"" m "\": {"
			member(1, "figure", "\"" label[m, "figure"] "\"")
			member(0, "cost", "\"" label[m, "cpu"] "\"")
			for (k = 1; k <= nc; k++) {
				if (gather(m, col[k], "figure"))
					member(0, col[k], triple())
				if (gather(m, col[k], "cpu"))
					member(0, col[k] "_cost", triple())
				if (base == "" || col[k] == base)
					continue
				if (ratios(m, col[k], base, "figure"))
					member(0, col[k] "_to_" base, triple())
			}
			out = out "}"
		}
		out = out "},\n \"goals\": [" goals "]}"
		print out >json
	}' "$tmp/results"
}

# ---- the run ----

ulimit -n "$(ulimit -Hn)"
ip link set lo up
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
skipped=()
with_tls=0
case $measures in
*tls_*)
	# shellcheck source=selftests/lib/certificates.sh
	. "$certificates"
	make_certificates "$tmp/cert" || die "no certificates"
	cat "$tmp/cert/server.pem" "$tmp/cert/server.key" >"$tmp/cert/both.pem"
	with_tls=1
	;;
esac
if [ -x "$build/bin/cmanctl" ] && [ -x "$build/bin/cmand" ]; then
	columns+=(cman)
	configure_cman cman user
	if [ "$sockmap" = 1 ]; then
		columns+=(sockmap)
		configure_cman sockmap sockmap
	fi
else
	skipped+=("cman: $build/bin/cmanctl or cmand is not built")
fi
if command -v haproxy >/dev/null; then
	columns+=(haproxy)
	configure_haproxy
else
	skipped+=("haproxy: not installed (apt-get install haproxy)")
fi
if ! command -v nginx >/dev/null; then
	skipped+=("nginx: not installed (apt-get install nginx-light libnginx-mod-stream)")
elif ! find_nginx_module; then
	skipped+=("nginx: no stream module (apt-get install libnginx-mod-stream)")
else
	columns+=(nginx)
	configure_nginx
fi
: >"$tmp/results"
describe
for column in "${columns[@]}"; do
	new_column "$column"
done
for ((pass = 1; pass <= passes; pass++)); do
	running=()
	for column in "${columns[@]}"; do
		start_relay "$column" && running+=("$column")
	done
	for m in $measures; do
		[ ! -t 2 ] || printf '\rpass %d of %d: %-8s' "$pass" "$passes" "$m" >&2
		for ((i = 0; i < ${#running[@]}; i++)); do
			measure "$pass" "$m" "${running[(i + pass) % ${#running[@]}]}"
		done
	done
	for column in "${columns[@]}"; do
		stop_relay "$column"
	done
done
[ ! -t 2 ] || printf '\r%40s\r' "" >&2
report
exit 0
