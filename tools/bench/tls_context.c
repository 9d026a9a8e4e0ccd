// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The --tls options: what goes with what, and the SSL_CTX that they make. An option that only one
 * version has (a cipher, key updates, padding) chooses that version, so that it never does nothing
 * in silence. Mistakes are found here, before the first connection.
 */
#include "tls.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ANY_VERSION, VERSION_1_2, VERSION_1_3 }; /* as the words of --tls-version */

static bool is_server(const struct bench_options *opt)
{
	return opt->verb->run == verb_serve;
}

/* The first option that makes no sense as things are, and why. */
static const char *mistake(const struct bench_options *opt)
{
	bool any = opt->tls_version || opt->tls_cipher || opt->tls_ca || opt->tls_name ||
		   opt->tls_cert || opt->tls_key || opt->tls_alpn || opt->tls_update ||
		   opt->tls_pad || opt->tls_split || opt->tls_resume || opt->tls_keylog;

	if (!opt->tls)
		return any ? "the options --tls-... need --tls" : NULL;
	if (opt->zero_copy || opt->discard)
		return "--zero-copy and --discard do not go with --tls";
	if (is_server(opt) && (!opt->tls_cert || !opt->tls_key))
		return "serve --tls needs --tls-cert and --tls-key";
	if (!opt->tls_cert != !opt->tls_key)
		return "--tls-cert and --tls-key go together";
	if (opt->tls_version == VERSION_1_2 && (opt->tls_update || opt->tls_pad))
		return "--tls-update and --tls-pad need TLS 1.3";
	return NULL;
}

static int complain_tls(const char *option, const char *value)
{
	char why[256];

	tls_reason(NULL, why, sizeof(why));
	complain("%s %s: %s", option, value, why);
	return -EINVAL;
}

static int set_cipher(SSL_CTX *ctx, const char *name, uint64_t *version)
{
	bool modern = !strncmp(name, "TLS_", 4);
	uint64_t needs = modern ? VERSION_1_3 : VERSION_1_2;
	int r;

	r = modern ? SSL_CTX_set_ciphersuites(ctx, name) : SSL_CTX_set_cipher_list(ctx, name);
	if (r != 1)
		return complain_tls("--tls-cipher", name);
	if (*version && *version != needs) {
		complain("--tls-cipher %s needs TLS 1.%d", name, modern ? 3 : 2);
		return -EINVAL;
	}
	*version = needs;
	return 0;
}

static int set_versions(const struct bench_options *opt, SSL_CTX *ctx)
{
	uint64_t version = opt->tls_update || opt->tls_pad ? VERSION_1_3 : opt->tls_version;
	int err;

	err = opt->tls_cipher ? set_cipher(ctx, opt->tls_cipher, &version) : 0;
	if (err)
		return err;
	SSL_CTX_set_min_proto_version(ctx,
				      version == VERSION_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION);
	SSL_CTX_set_max_proto_version(ctx,
				      version == VERSION_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION);
	return 0;
}

static int set_certificates(const struct bench_options *opt, SSL_CTX *ctx)
{
	if (opt->tls_cert && SSL_CTX_use_certificate_chain_file(ctx, opt->tls_cert) != 1)
		return complain_tls("--tls-cert", opt->tls_cert);
	if (opt->tls_key &&
	    (SSL_CTX_use_PrivateKey_file(ctx, opt->tls_key, SSL_FILETYPE_PEM) != 1 ||
	     SSL_CTX_check_private_key(ctx) != 1))
		return complain_tls("--tls-key", opt->tls_key);
	if (!opt->tls_ca)
		return 0;
	if (SSL_CTX_load_verify_file(ctx, opt->tls_ca) != 1)
		return complain_tls("--tls-ca", opt->tls_ca);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	if (is_server(opt))
		SSL_CTX_set_client_CA_list(ctx, SSL_load_client_CA_file(opt->tls_ca));
	return 0;
}

/* "h2,http/1.1": each name behind a byte with its length. */
static int encode_alpn(const char *list, struct tls_context *c)
{
	size_t len = strlen(list), n;

	if (len + 1 > sizeof(c->alpn))
		return -EINVAL;
	for (;;) {
		n = strcspn(list, ",");
		if (!n || n > 255)
			return -EINVAL;
		c->alpn[c->alpn_len++] = (unsigned char)n;
		memcpy(c->alpn + c->alpn_len, list, n);
		c->alpn_len += (unsigned int)n;
		if (!list[n])
			return 0;
		list += n + 1;
	}
}

/* The server's order counts; a client that offers nothing of ours is refused. */
static int choose_alpn(SSL *ssl, const unsigned char **ret, unsigned char *ret_len,
		       const unsigned char *offer, unsigned int len, void *arg)
{
	const struct tls_context *c = arg;
	unsigned char *out;

	(void)ssl;
	if (SSL_select_next_proto(&out, ret_len, c->alpn, c->alpn_len, offer, len) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*ret = out;
	return SSL_TLSEXT_ERR_OK;
}

static int set_alpn(const struct bench_options *opt, struct tls_context *c)
{
	if (!opt->tls_alpn)
		return 0;
	if (encode_alpn(opt->tls_alpn, c)) {
		complain("--tls-alpn: '%s' is not a list such as h2,http/1.1", opt->tls_alpn);
		return -EINVAL;
	}
	if (c->server)
		SSL_CTX_set_alpn_select_cb(c->ctx, choose_alpn, c);
	else if (SSL_CTX_set_alpn_protos(c->ctx, c->alpn, c->alpn_len))
		return -ENOMEM;
	return 0;
}

/* One write a line: clients and servers may share the file. */
static void append_keylog(const SSL *ssl, const char *line)
{
	const struct tls_context *c = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	char text[512];
	int n = snprintf(text, sizeof(text), "%s\n", line);

	if (n >= (int)sizeof(text) || write(c->keylog, text, (size_t)n) != n)
		complain("--tls-keylog: a line was not written");
}

static int set_keylog(const struct bench_options *opt, struct tls_context *c)
{
	if (!opt->tls_keylog)
		return 0;
	c->keylog = open(opt->tls_keylog, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (c->keylog < 0) {
		complain("--tls-keylog %s: %s", opt->tls_keylog, strerror(errno));
		return -EINVAL;
	}
	SSL_CTX_set_app_data(c->ctx, c);
	SSL_CTX_set_keylog_callback(c->ctx, append_keylog);
	return 0;
}

static int configure(const struct bench_options *opt, struct tls_context *c)
{
	static const unsigned char context[] = "cman-bench";
	SSL_CTX *ctx = c->ctx;
	int err;

	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				      SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_msg_callback(ctx, tls_message_callback);
	SSL_CTX_set_session_id_context(ctx, context, sizeof(context));
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	if (opt->tls_resume) {
		SSL_CTX_set_session_cache_mode(ctx,
					       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(ctx, tls_session_callback);
	}
	if (opt->tls_pad && !SSL_CTX_set_block_padding(ctx, opt->tls_pad))
		return -EINVAL;
	err = set_versions(opt, ctx);
	if (!err)
		err = set_certificates(opt, ctx);
	if (!err)
		err = set_alpn(opt, c);
	if (!err)
		err = set_keylog(opt, c);
	return err;
}

int tls_context_new(const struct bench_options *opt, struct tls_context **ret)
{
	const char *wrong = mistake(opt);
	struct tls_context *c;
	int err;

	if (wrong) {
		complain("%s: %s", opt->verb->name, wrong);
		return -EINVAL;
	}
	if (!opt->tls)
		return 0;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->server = is_server(opt);
	c->keylog = -1;
	c->ctx = SSL_CTX_new(c->server ? TLS_server_method() : TLS_client_method());
	c->method = tls_bio_method();
	err = c->ctx && c->method ? configure(opt, c) : -ENOMEM;
	if (err) {
		tls_context_free(c);
		return err;
	}
	*ret = c;
	return 0;
}

void tls_context_free(struct tls_context *c)
{
	if (!c)
		return;
	SSL_CTX_free(c->ctx);
	BIO_meth_free(c->method);
	if (c->keylog >= 0)
		close(c->keylog);
	free(c);
}
