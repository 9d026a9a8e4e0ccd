/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Addresses as text: "10.0.0.5:5432", "[::1]:80", "10.0.0.9:7000-7999", "10.0.0.0/8", and back.
 * Numeric only, one spelling for each thing: a v4-mapped IPv6 address must be written as IPv4, so
 * that two texts that mean the same address are equal in the model. Every failure has a reason
 * that says what was expected.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "usr/core/config.h"

#define NOT_NUMERIC "expected a numeric IPv4 or IPv6 address (names are not looked up)"

static const uint8_t v4_mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

static bool is_mapped(const uint8_t addr[16])
{
	return memcmp(addr, v4_mapped, sizeof(v4_mapped)) == 0;
}

static int refuse(const char **why, const char *reason)
{
	*why = reason;
	return -EINVAL;
}

/* @text of @len bytes as an address of either family. */
static int parse_numeric(const char *text, size_t len, uint8_t ret_addr[16], uint16_t *ret_family,
			 const char **why)
{
	char copy[INET6_ADDRSTRLEN];
	uint8_t addr[16];

	if (len == 0)
		return refuse(why, "the address is missing");
	if (len >= sizeof(copy))
		return refuse(why, NOT_NUMERIC);
	memcpy(copy, text, len);
	copy[len] = '\0';

	memcpy(addr, v4_mapped, sizeof(v4_mapped));
	if (inet_pton(AF_INET, copy, addr + 12) == 1) {
		memcpy(ret_addr, addr, 16);
		*ret_family = AF_INET;
		return 0;
	}
	if (strcmp(copy, "*") == 0)
		return refuse(why, "'*' is no address: expected 0.0.0.0 or [::] for every address");
	if (strchr(copy, '%'))
		return refuse(why,
			      "a zone such as %eth0 is not supported: expected the address alone");
	if (inet_pton(AF_INET6, copy, addr) != 1)
		return refuse(why, NOT_NUMERIC);
	if (is_mapped(addr))
		return refuse(why, "an IPv4 address in IPv6 form: expected it as 10.0.0.5");
	memcpy(ret_addr, addr, 16);
	*ret_family = AF_INET6;
	return 0;
}

/* Decimal digits only, at most @max. Returns the end or NULL. */
static const char *parse_digits(const char *text, uint32_t max, uint32_t *ret_value)
{
	uint32_t value = 0;
	const char *p;

	for (p = text; *p >= '0' && *p <= '9'; p++) {
		value = value * 10 + (uint32_t)(*p - '0');
		if (value > max || p - text >= 6)
			return NULL;
	}
	if (p == text)
		return NULL;
	*ret_value = value;
	return p;
}

static int parse_ports(const char *text, bool allow_range, uint16_t *ret_first, uint16_t *ret_last,
		       const char **why)
{
	uint32_t first, last;
	const char *end;

	if (*text == '\0')
		return refuse(why, "the port after ':' is missing");
	end = parse_digits(text, 65535, &first);
	if (!end)
		return refuse(why, "bad port: expected a number from 1 to 65535");
	last = first;
	if (*end == '-') {
		if (!allow_range)
			return refuse(why,
				      "a range of ports is not allowed here: expected one port");
		end = parse_digits(end + 1, 65535, &last);
		if (!end)
			return refuse(why, "bad port range: expected FIRST-LAST of 1 to 65535");
	}
	if (*end != '\0')
		return refuse(why, "text after the port: expected ADDRESS:PORT and nothing more");
	if (first == 0 || last == 0)
		return refuse(why, "port 0 is not a port: expected a number from 1 to 65535");
	if (last < first)
		return refuse(why, "the port range is reversed: expected FIRST-LAST");
	*ret_first = (uint16_t)first;
	*ret_last = (uint16_t)last;
	return 0;
}

int cman_endpoint_parse(const char *text, bool allow_range, struct cman_endpoint *ret_endpoint,
			const char **why)
{
	struct cman_endpoint e = { 0 };
	const char *end, *host = text;
	size_t len;
	int r;

	if (*text == '[') {
		host++;
		end = strchr(host, ']');
		if (!end)
			return refuse(why, "']' is missing: expected [ADDRESS]:PORT");
		len = (size_t)(end - host);
		end++;
		if (*end != ':')
			return refuse(why, *end ? "text after ']': expected [ADDRESS]:PORT" :
						  "the port is missing: expected [ADDRESS]:PORT");
	} else {
		end = strchr(host, ':');
		if (!end)
			return refuse(why, "the port is missing: expected ADDRESS:PORT such as "
					   "10.0.0.5:5432 or [::1]:5432");
		if (strchr(end + 1, ':'))
			return refuse(why, "an IPv6 address goes between brackets: expected "
					   "[ADDRESS]:PORT such as [::1]:5432");
		len = (size_t)(end - host);
	}
	r = parse_numeric(host, len, e.addr, &e.family, why);
	if (r < 0)
		return r;
	if (*text == '[' && e.family != AF_INET6)
		return refuse(why, "brackets are for IPv6 addresses: expected 10.0.0.5:5432");
	r = parse_ports(end + 1, allow_range, &e.port_first, &e.port_last, why);
	if (r < 0)
		return r;
	*ret_endpoint = e;
	return 0;
}

int cman_address_parse(const char *text, struct cman_endpoint *ret_endpoint, const char **why)
{
	struct cman_endpoint e = { 0 }, with_port;
	const char *unused;
	int r;

	if (cman_endpoint_parse(text, true, &with_port, &unused) == 0)
		return refuse(why, "a port is not allowed here: expected the address alone");
	r = parse_numeric(text, strlen(text), e.addr, &e.family, why);
	if (r < 0)
		return r;
	*ret_endpoint = e;
	return 0;
}

int cman_prefix_parse(const char *text, uint8_t ret_addr[16], uint32_t *ret_prefix_len,
		      const char **why)
{
	const char *slash = strchr(text, '/');
	uint32_t len, bits, i;
	uint8_t addr[16];
	uint16_t family;
	const char *end;
	int r;

	r = parse_numeric(text, slash ? (size_t)(slash - text) : strlen(text), addr, &family, why);
	if (r < 0)
		return r;
	bits = family == AF_INET ? 32 : 128;
	len = bits;
	if (slash) {
		end = parse_digits(slash + 1, bits, &len);
		if (!end || *end)
			return refuse(why, family == AF_INET ?
						   "bad prefix length: expected /0 to /32" :
						   "bad prefix length: expected /0 to /128");
	}
	len += 128 - bits;
	for (i = len; i < 128; i++)
		if (addr[i / 8] & (0x80 >> (i % 8)))
			return refuse(why, "bits are set behind the prefix: expected the network's "
					   "own address such as 10.0.0.0/8");
	memcpy(ret_addr, addr, 16);
	*ret_prefix_len = len;
	return 0;
}

char *cman_endpoint_format(const uint8_t addr[16], uint16_t port, char buf[CMAN_ENDPOINT_TEXT])
{
	bool v4 = is_mapped(addr);
	char text[INET6_ADDRSTRLEN];

	if (!inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? addr + 12 : addr, text, sizeof(text)))
		strcpy(text, "?");
	if (port == 0)
		snprintf(buf, CMAN_ENDPOINT_TEXT, "%s", text);
	else
		snprintf(buf, CMAN_ENDPOINT_TEXT, v4 ? "%s:%u" : "[%s]:%u", text, port);
	return buf;
}
