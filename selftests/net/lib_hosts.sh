# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Two hosts with an instance each, h1 and h2, that can hand services over to each other: H1 and H2, with a
# client's host C and a targets' host B on one bridge, br0. Sourced after lib_instance.sh.

need_cmd openssl

# pki: a CA, and a certificate for each node
pki() {
	openssl req -x509 -newkey rsa:2048 -nodes -keyout "$T/ca.key" -out "$T/ca.pem" -subj "/CN=test CA" -days 2 &&
		for n in h1 h2; do
			openssl req -newkey rsa:2048 -nodes -keyout "$T/$n.key" -out "$T/$n.csr" -subj "/CN=$n" &&
				printf 'subjectAltName=DNS:%s.example\n' $n > "$T/$n.ext" &&
				openssl x509 -req -in "$T/$n.csr" -CA "$T/ca.pem" -CAkey "$T/ca.key" -CAcreateserial \
					-out "$T/$n.pem" -days 2 -extfile "$T/$n.ext" || return 1
		done
	chmod 600 "$T"/*.key
}

conf_of() { # HOST PEER OWN-ADDRESS PEER-ADDRESS STANDBY
	local s
	{
		cat <<END
instance cman1 {
    run_dir = "$T/run-$1"
    gateways = 2
    max_sessions = 3000
    standby = $5
    handover_listen = "$3:7710"
    tls { certificate = "$T/$1.pem"  key = "$T/$1.key"  ca = "$T/ca.pem" }
    peer $2 { address = "$4:7710"  name = "$2.example" }
    floating vip { address = "10.1.0.100/32"  interface = "eth0" }
END
		for s in echo:1 hold:2 source:3 sink:4 probe:6; do
			cat <<END
    listener ${s%:*} { address = "10.1.0.100:700${s#*:}"  service = "${s%:*}" }
    service ${s%:*} { targets = { "10.1.0.3:900${s#*:}" }  source = "10.1.0.100" }
END
		done
		echo "}"
	} > "$T/$1.conf"
}

two_hosts() {
	local h
	for h in H1 H2 C B; do host_add $h; done
	host_join br0 H1 10.1.0.11/24 && host_join br0 H2 10.1.0.12/24 && host_join br0 C 10.1.0.2/24 &&
		host_join br0 B 10.1.0.3/24 || bail "cannot join the hosts"
	for h in H1 H2 C B; do
		host $h sysctl -qw net.ipv4.ip_local_port_range="32768 60999" net.ipv4.tcp_tw_reuse=1
	done
	pki > "$T/pki.log" 2>&1 || bail "certificates: $(tail -n 3 "$T/pki.log")"
	conf_of h1 h2 10.1.0.11 10.1.0.12 false
	conf_of h2 h1 10.1.0.12 10.1.0.11 true
}

# at h1|h2 ARGUMENT…: cmanctl there
at() { host "${1^^}" "$CTL" -f "$T/$1.conf" "${@:2}" < /dev/null; }

holds() { [ -n "$(host "${1^^}" ip -o address show dev eth0 to 10.1.0.100)" ]; }
# nowhere_else HERE THERE: the floating address is on exactly one side
nowhere_else() {
	holds "$1" && ! holds "$2" && [ -z "$(host "${2^^}" ip -o address show dev lo to 10.1.0.100)" ] &&
		[ -z "$(host "${1^^}" ip -o address show dev lo to 10.1.0.100)" ]
}
