# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Certificates for shell tests, made when they run: there is no private key in the tree.
#
#	. "$(dirname "$0")/../lib/certificates.sh"
#	make_certificates "$T/cert" || bail "no certificates"
#
# Each is NAME.pem with NAME.key (mode 0600). ECDSA P-256; NAME-rsa: RSA 2048.
#	ca                   has signed all that follow
#	server, server-rsa   of localhost, db.example, 127.0.0.1, ::1
#	second, second-rsa   of second.example: to be chosen by SNI
#	client, client-rsa   for clients only
#	expired              as server, also for clients; its time was in 2001
#	other-ca, stranger   a CA that nobody trusts, and what it has signed: as server, also for clients

CERT_SAN=DNS:localhost,DNS:db.example,IP:127.0.0.1,IP:::1

# _cert_key NAME ec|rsa
_cert_key() {
	(
		umask 077
		case $2 in
		rsa) openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$1.key" ;;
		*) openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key" ;;
		esac
	)
}

# _cert_ca NAME
_cert_ca() {
	_cert_key "$1" ec &&
		openssl req -x509 -new -key "$1.key" -subj "/CN=cman test $1" -days 30 -out "$1.pem" \
			-addext basicConstraints=critical,CA:TRUE \
			-addext keyUsage=critical,keyCertSign,cRLSign
}

# _cert_leaf NAME ec|rsa CA SAN USAGE [FROM TO]: times as YYYYMMDDHHMMSSZ; else 30 days from yesterday
_cert_leaf() {
	local name=$1 from=${6:-$(date -u -d yesterday +%Y%m%d%H%M%SZ)}
	local to=${7:-$(date -u -d '30 days' +%Y%m%d%H%M%SZ)}
	_cert_key "$name" "$2" &&
		openssl req -new -key "$name.key" -subj "/CN=$name" -out "$name.csr" || return
	cat > "$name.cnf" <<-END
		[ca]
		default_ca = it
		[it]
		database = $name.index
		rand_serial = yes
		default_md = sha256
		policy = any
		x509_extensions = leaf
		[any]
		commonName = supplied
		[leaf]
		basicConstraints = CA:FALSE
		keyUsage = digitalSignature,keyEncipherment
		extendedKeyUsage = $5
		subjectAltName = $4
	END
	: > "$name.index"
	openssl ca -batch -notext -config "$name.cnf" -cert "$3.pem" -keyfile "$3.key" \
		-startdate "$from" -enddate "$to" -in "$name.csr" -out "$name.pem" -outdir . &&
		rm -f "$name".{csr,cnf,index*} [0-9A-F]*.pem
}

# make_certificates DIR: what openssl says is shown when it fails
make_certificates() (
	mkdir -p "$1" && cd "$1" || return
	{
		_cert_ca ca &&
			_cert_ca other-ca &&
			_cert_leaf server ec ca "$CERT_SAN" serverAuth &&
			_cert_leaf server-rsa rsa ca "$CERT_SAN" serverAuth &&
			_cert_leaf second ec ca DNS:second.example serverAuth &&
			_cert_leaf second-rsa rsa ca DNS:second.example serverAuth &&
			_cert_leaf client ec ca DNS:client.example clientAuth &&
			_cert_leaf client-rsa rsa ca DNS:client.example clientAuth &&
			_cert_leaf stranger ec other-ca "$CERT_SAN" serverAuth,clientAuth &&
			_cert_leaf expired ec ca "$CERT_SAN" serverAuth,clientAuth \
				20010101000000Z 20010201000000Z
	} > openssl.log 2>&1 || {
		cat openssl.log >&2
		return 1
	}
	rm -f openssl.log
)
