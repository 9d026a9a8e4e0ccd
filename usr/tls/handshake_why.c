/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Why a handshake failed: a sentence for the log and a class to count. There are three sources: our
 * own judgement of the peer's certificate, the alert that the peer sent, and OpenSSL's error queue.
 * What the sentences quote is chosen by strangers: all of it is made printable at the end.
 */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "usr/sys/chan_tls_ctx.h"
#include "usr/tls/handshake_impl.h"

#define QUOTED 120 /* bytes of a name or of a list of names */

const char *cman_tls_failure_name(enum cman_tls_failure failure)
{
	static const char *const names[CMAN_TLS_FAILURES] = {
		[CMAN_TLS_FAIL_NONE] = "none",
		[CMAN_TLS_FAIL_PROTOCOL] = "protocol",
		[CMAN_TLS_FAIL_VERSION] = "version",
		[CMAN_TLS_FAIL_CIPHER] = "cipher",
		[CMAN_TLS_FAIL_EXPIRED] = "expired",
		[CMAN_TLS_FAIL_NAME] = "name",
		[CMAN_TLS_FAIL_CERTIFICATE] = "certificate",
		[CMAN_TLS_FAIL_ALPN] = "alpn",
		[CMAN_TLS_FAIL_CLOSED] = "closed",
		[CMAN_TLS_FAIL_INTERNAL] = "internal",
	};

	return failure < CMAN_TLS_FAILURES ? names[failure] : "?";
}

const char *cman_tls_handshake_peer(const struct cman_tls_handshake *hs)
{
	return hs->ctx->server ? "the client" : "the backend";
}

void cman_tls_handshake_fail(struct cman_tls_handshake *hs, enum cman_tls_failure failure,
			     const char *format, ...)
{
	va_list args;
	char *p;

	hs->state = CMAN_TLS_FAILED;
	if (hs->failure)
		return;
	hs->failure = failure;
	va_start(args, format);
	vsnprintf(hs->why, sizeof(hs->why), format, args);
	va_end(args);
	for (p = hs->why; *p; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
}

const char *cman_tls_handshake_why(const struct cman_tls_handshake *hs,
				   enum cman_tls_failure *ret_failure)
{
	if (ret_failure)
		*ret_failure = hs->failure;
	return hs->why;
}

void cman_tls_handshake_no_record(struct cman_tls_handshake *hs, const uint8_t *data, size_t len)
{
	char text[17];
	size_t i;

	for (i = 0; i < len && i < sizeof(text) - 1; i++)
		text[i] = data[i] >= ' ' && data[i] <= '~' && data[i] != '"' ? (char)data[i] : '?';
	text[i] = '\0';
	if (hs->heard)
		cman_tls_handshake_fail(hs, CMAN_TLS_FAIL_PROTOCOL,
					"%s sent something else than TLS: expected a record, got "
					"\"%s\"",
					cman_tls_handshake_peer(hs), text);
	else
		cman_tls_handshake_fail(hs, CMAN_TLS_FAIL_PROTOCOL,
					"%s does not speak TLS: expected a %s, got \"%s\"",
					cman_tls_handshake_peer(hs),
					hs->ctx->server ? "ClientHello" : "ServerHello", text);
}

/* ---- certificates ---- */

/* What was written to @bio, cut to what fits. */
static const char *quote(BIO *bio, char *buf, size_t size)
{
	char *data;
	long len = bio ? BIO_get_mem_data(bio, &data) : 0;
	const bool cut = len >= (long)size;
	size_t n = cut ? size - 4 : (size_t)len;

	if (n)
		memcpy(buf, data, n);
	strcpy(buf + n, cut ? "..." : "");
	BIO_free(bio);
	return buf;
}

/* "CN=a.example,O=..." */
static const char *text_of(const X509_NAME *name, char buf[QUOTED])
{
	BIO *bio = BIO_new(BIO_s_mem());

	if (bio && name)
		X509_NAME_print_ex(bio, name, 0,
				   XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB);
	return quote(bio, buf, QUOTED);
}

static const char *subject(const X509 *x, char buf[QUOTED])
{
	return text_of(x ? X509_get_subject_name(x) : NULL, buf);
}

static const char *issuer(const X509 *x, char buf[QUOTED])
{
	return text_of(x ? X509_get_issuer_name(x) : NULL, buf);
}

/* "DNS:a.example, IP Address:10.0.0.1" */
static const char *names_of(const X509 *x, char buf[QUOTED])
{
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	BIO *bio = BIO_new(BIO_s_mem());
	int i;

	for (i = 0; bio && i < sk_GENERAL_NAME_num(names); i++) {
		BIO_puts(bio, i ? ", " : "");
		GENERAL_NAME_print(bio, sk_GENERAL_NAME_value(names, i));
	}
	if (bio && i <= 0)
		BIO_puts(bio, "no subjectAltName");
	GENERAL_NAMES_free(names);
	return quote(bio, buf, QUOTED);
}

/* What cman_tls_explain() would say for a channel between machines is not right here. */
static void reason(const struct cman_tls_handshake *hs, int error, const X509 *leaf,
		   const X509 *culprit, char *buf, size_t size)
{
	const char *ca = hs->ctx->server ? "client_ca" : "ca";
	char who[QUOTED];

	switch (error) {
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
		snprintf(buf, size, "it is self-signed and not in the configured %s", ca);
		break;
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
		snprintf(buf, size, "its CA \"%s\" is unknown: not in the configured %s",
			 subject(culprit, who), ca);
		break;
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
		snprintf(buf, size,
			 "its CA \"%s\" is unknown: not in the configured %s, nor sent along",
			 issuer(culprit, who), ca);
		break;
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
		snprintf(buf, size, "its signature is not the one of \"%s\"", issuer(culprit, who));
		break;
	case X509_V_ERR_INVALID_PURPOSE:
		snprintf(buf, size, "its key usage does not allow the role of a %s",
			 hs->ctx->server ? "client" : "server");
		break;
	default:
		*buf = '\0';
		cman_tls_explain(error, leaf, culprit, buf, size);
	}
}

int cman_tls_handshake_check(int ok, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct cman_tls_handshake *hs = SSL_get_app_data(ssl);
	const X509 *leaf = X509_STORE_CTX_get0_cert(store);
	int error = X509_STORE_CTX_get_error(store);
	char who[QUOTED], has[QUOTED], because[300];

	/* without SSL_VERIFY_PEER OpenSSL looks all the same, and does not care for the result */
	if (ok || SSL_get_verify_mode(ssl) == SSL_VERIFY_NONE)
		return 1;
	subject(leaf, who);
	if (error == X509_V_ERR_HOSTNAME_MISMATCH || error == X509_V_ERR_IP_ADDRESS_MISMATCH) {
		cman_tls_handshake_fail(hs, CMAN_TLS_FAIL_NAME,
					"the backend's certificate \"%s\" has another name: "
					"expected %s, has %s",
					who, hs->sni, names_of(leaf, has));
		return 0;
	}
	reason(hs, error, leaf, X509_STORE_CTX_get_current_cert(store), because, sizeof(because));
	cman_tls_handshake_fail(hs,
				error == X509_V_ERR_CERT_HAS_EXPIRED ? CMAN_TLS_FAIL_EXPIRED :
								       CMAN_TLS_FAIL_CERTIFICATE,
				"%s's certificate \"%s\" is refused: %s",
				cman_tls_handshake_peer(hs), who, because);
	return 0;
}

/* ---- versions ---- */

static const char *version_name(uint16_t version)
{
	switch (version) {
	case SSL3_VERSION:
		return "SSLv3";
	case TLS1_VERSION:
		return "TLSv1.0";
	case TLS1_1_VERSION:
		return "TLSv1.1";
	default:
		return cman_tls_version_name(version);
	}
}

static void fail_version(struct cman_tls_handshake *hs)
{
	const char *least = cman_tls_version_name(hs->ctx->min_version);

	if (!hs->peer_version)
		cman_tls_handshake_fail(hs, CMAN_TLS_FAIL_VERSION,
					"%s has no version of TLS in common with us: expected %s "
					"or newer",
					cman_tls_handshake_peer(hs), least);
	else
		cman_tls_handshake_fail(
			hs, CMAN_TLS_FAIL_VERSION, "%s %s %s%s: expected %s or newer",
			cman_tls_handshake_peer(hs), hs->ctx->server ? "offered" : "chose",
			version_name(hs->peer_version), hs->ctx->server ? " at most" : "", least);
}

/* ---- what the peer said before it gave up ---- */

static bool about_certificate(int alert)
{
	switch (alert) {
	case SSL3_AD_NO_CERTIFICATE:
	case SSL_AD_BAD_CERTIFICATE:
	case SSL_AD_UNSUPPORTED_CERTIFICATE:
	case SSL_AD_CERTIFICATE_REVOKED:
	case SSL_AD_CERTIFICATE_EXPIRED:
	case SSL_AD_CERTIFICATE_UNKNOWN:
	case SSL_AD_UNKNOWN_CA:
	case SSL_AD_ACCESS_DENIED:
	case SSL_AD_CERTIFICATE_UNOBTAINABLE:
	case SSL_AD_BAD_CERTIFICATE_STATUS_RESPONSE:
	case SSL_AD_BAD_CERTIFICATE_HASH_VALUE:
	case SSL_AD_CERTIFICATE_REQUIRED:
		return true;
	default:
		return false;
	}
}

static enum cman_tls_failure alert_class(int alert)
{
	switch (alert) {
	case SSL_AD_HANDSHAKE_FAILURE:
	case SSL_AD_INSUFFICIENT_SECURITY:
		return CMAN_TLS_FAIL_CIPHER;
	case SSL_AD_PROTOCOL_VERSION:
	case SSL_AD_INAPPROPRIATE_FALLBACK:
		return CMAN_TLS_FAIL_VERSION;
	case SSL_AD_UNRECOGNIZED_NAME:
		return CMAN_TLS_FAIL_NAME;
	case SSL_AD_NO_APPLICATION_PROTOCOL:
		return CMAN_TLS_FAIL_ALPN;
	default:
		return CMAN_TLS_FAIL_PROTOCOL;
	}
}

static void fail_alert(struct cman_tls_handshake *hs, int alert)
{
	const char *peer = cman_tls_handshake_peer(hs), *text = SSL_alert_desc_string_long(alert);
	/* TLS 1.2 has no word of its own for that: RFC 5246, 7.4.6 */
	bool none = hs->asked && !hs->ctx->own.leaf && alert == SSL_AD_HANDSHAKE_FAILURE;

	if (none || (alert == SSL_AD_CERTIFICATE_REQUIRED && !hs->ctx->own.leaf))
		cman_tls_handshake_fail(hs, CMAN_TLS_FAIL_CERTIFICATE,
					"%s asked for our certificate, and none is configured: "
					"%s",
					peer, text);
	else if (about_certificate(alert))
		cman_tls_handshake_fail(hs,
					alert == SSL_AD_CERTIFICATE_EXPIRED ?
						CMAN_TLS_FAIL_EXPIRED :
						CMAN_TLS_FAIL_CERTIFICATE,
					"%s refused our certificate: %s", peer, text);
	else if (alert == SSL_AD_UNRECOGNIZED_NAME)
		cman_tls_handshake_fail(hs, CMAN_TLS_FAIL_NAME, "%s does not know the name \"%s\"",
					peer, hs->sni);
	else
		cman_tls_handshake_fail(hs, alert_class(alert),
					"%s broke the handshake off: %s (alert %d)", peer, text,
					alert);
}

/* ---- OpenSSL's own words ---- */

/* clang-format off */
static const struct {
	int reason;
	enum cman_tls_failure failure;
	const char *text; /* behind "the client: "; NULL: OpenSSL's */
} known[] = {
	{ SSL_R_NO_SHARED_CIPHER, CMAN_TLS_FAIL_CIPHER,
	  "no cipher suite in common that fits our certificate" },
	{ SSL_R_NO_SUITABLE_KEY_SHARE, CMAN_TLS_FAIL_CIPHER, "no group for the key exchange in common" },
	{ SSL_R_NO_SUITABLE_GROUPS, CMAN_TLS_FAIL_CIPHER, "no group for the key exchange in common" },
	{ SSL_R_NO_SHARED_GROUPS, CMAN_TLS_FAIL_CIPHER, "no group for the key exchange in common" },
	{ SSL_R_UNSUPPORTED_ELLIPTIC_CURVE, CMAN_TLS_FAIL_CIPHER,
	  "no group for the key exchange in common" },
	{ SSL_R_WRONG_CURVE, CMAN_TLS_FAIL_CIPHER, "no group for the key exchange in common" },
	{ SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, CMAN_TLS_FAIL_CIPHER,
	  "no signature algorithm in common that fits our certificate" },
	{ SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS, CMAN_TLS_FAIL_CIPHER,
	  "no signature algorithm in common" },
	{ SSL_R_DH_KEY_TOO_SMALL, CMAN_TLS_FAIL_CIPHER, NULL },
	{ SSL_R_WRONG_SIGNATURE_TYPE, CMAN_TLS_FAIL_CIPHER, NULL },
	{ SSL_R_UNKNOWN_CIPHER_RETURNED, CMAN_TLS_FAIL_CIPHER, NULL },
	{ SSL_R_WRONG_CIPHER_RETURNED, CMAN_TLS_FAIL_CIPHER, NULL },
	{ SSL_R_NO_APPLICATION_PROTOCOL, CMAN_TLS_FAIL_ALPN, "no application protocol in common" },
	{ SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, CMAN_TLS_FAIL_CERTIFICATE,
	  "it showed no certificate: expected one that client_ca has issued" },
	{ SSL_R_CERTIFICATE_VERIFY_FAILED, CMAN_TLS_FAIL_CERTIFICATE, NULL },
	{ SSL_R_EE_KEY_TOO_SMALL, CMAN_TLS_FAIL_CERTIFICATE, NULL },
	{ ERR_R_MALLOC_FAILURE, CMAN_TLS_FAIL_INTERNAL, "out of memory" },
	{ ERR_R_INTERNAL_ERROR, CMAN_TLS_FAIL_INTERNAL, NULL },
};
/* clang-format on */

static void fail_reason(struct cman_tls_handshake *hs, unsigned long e)
{
	const char *text = ERR_reason_error_string(e);
	enum cman_tls_failure failure = CMAN_TLS_FAIL_PROTOCOL;
	size_t i;

	for (i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (known[i].reason == ERR_GET_REASON(e)) {
			failure = known[i].failure;
			text = known[i].text ? known[i].text : text;
		}
	cman_tls_handshake_fail(hs, failure, "the handshake with %s failed: %s",
				cman_tls_handshake_peer(hs), text ? text : "unknown error");
}

void cman_tls_handshake_explain(struct cman_tls_handshake *hs, int error)
{
	unsigned long e = ERR_peek_error();
	int r = ERR_GET_REASON(e);

	if (hs->failure) { /* said where it was decided */
		hs->state = CMAN_TLS_FAILED;
		return;
	}
	if (error == SSL_ERROR_ZERO_RETURN) {
		cman_tls_handshake_fail(hs, CMAN_TLS_FAIL_CLOSED,
					"%s said goodbye in the TLS handshake",
					cman_tls_handshake_peer(hs));
		return;
	}
	if (ERR_GET_LIB(e) != ERR_LIB_SSL) {
		fail_reason(hs, e);
		return;
	}
	if (r > SSL_AD_REASON_OFFSET && r < SSL_AD_REASON_OFFSET + 256) {
		fail_alert(hs, r - SSL_AD_REASON_OFFSET);
		return;
	}
	switch (r) {
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_UNKNOWN_PROTOCOL:
	case SSL_R_VERSION_TOO_LOW:
	case SSL_R_WRONG_SSL_VERSION:
	case SSL_R_BAD_PROTOCOL_VERSION_NUMBER:
	case SSL_R_INAPPROPRIATE_FALLBACK:
		fail_version(hs);
		break;
	default:
		fail_reason(hs, e);
	}
}
