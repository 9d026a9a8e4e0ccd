/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Addresses as text: what is accepted, what it becomes, and that formatting gives back a text that
 * parses to the same. What is refused must have a reason, and must leave the result alone.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "usr/core/config.h"

static struct cman_endpoint good(const char *text)
{
	struct cman_endpoint e;
	const char *why = NULL;

	cr_assert_eq(cman_endpoint_parse(text, true, &e, &why), 0, "%s: %s", text, why);
	return e;
}

static void bad(const char *text, bool range, const char *reason)
{
	struct cman_endpoint e = { .port_first = 4711 };
	const char *why = NULL;

	cr_assert_eq(cman_endpoint_parse(text, range, &e, &why), -EINVAL, "%s", text);
	cr_assert_not_null(why, "%s", text);
	cr_assert(strstr(why, reason), "%s: %s, not %s", text, why, reason);
	cr_assert_eq(e.port_first, 4711, "%s: result touched", text);
}

Test(endpoint, ipv4)
{
	static const uint8_t addr[16] = { [10] = 0xff, 0xff, 10, 0, 0, 5 };
	struct cman_endpoint e = good("10.0.0.5:5432");

	cr_assert_eq(e.family, AF_INET);
	cr_assert_arr_eq(e.addr, addr, 16);
	cr_assert_eq(e.port_first, 5432);
	cr_assert_eq(e.port_last, 5432);
}

Test(endpoint, ipv6)
{
	static const uint8_t addr[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 1 };
	struct cman_endpoint e = good("[2001:db8::1]:1");

	cr_assert_eq(e.family, AF_INET6);
	cr_assert_arr_eq(e.addr, addr, 16);
	cr_assert_eq(e.port_first, 1);
}

Test(endpoint, ranges)
{
	struct cman_endpoint e = good("10.0.0.9:7000-7999");

	cr_assert_eq(e.port_first, 7000);
	cr_assert_eq(e.port_last, 7999);
	e = good("[::]:1-65535");
	cr_assert_eq(e.port_first, 1);
	cr_assert_eq(e.port_last, 65535);
	e = good("0.0.0.0:80-80");
	cr_assert_eq(e.port_first, e.port_last);
	bad("10.0.0.9:7000-7999", false, "range of ports is not allowed");
}

Test(endpoint, refused)
{
	bad("", true, "the port is missing");
	bad(":80", true, "the address is missing");
	bad("10.0.0.5", true, "the port is missing");
	bad("10.0.0.5:", true, "the port after ':' is missing");
	bad("10.0.0.5:0", true, "port 0");
	bad("10.0.0.5:0-5", true, "port 0");
	bad("10.0.0.5:65536", true, "bad port");
	bad("10.0.0.5:99999999999", true, "bad port");
	bad("10.0.0.5:0000080", true, "bad port");
	bad("10.0.0.5:-1", true, "bad port");
	bad("10.0.0.5:+1", true, "bad port");
	bad("10.0.0.5: 80", true, "bad port");
	bad("10.0.0.5:80 ", true, "text after the port");
	bad("10.0.0.5:80-", true, "bad port range");
	bad("10.0.0.5:80-90-", true, "text after the port");
	bad("10.0.0.5:90-80", true, "reversed");
	bad(" 10.0.0.5:80", true, "numeric IPv4 or IPv6");
	bad("10.0.0:80", true, "numeric IPv4 or IPv6");
	bad("010.0.0.5:80", true, "numeric IPv4 or IPv6");
	bad("10.0.0.256:80", true, "numeric IPv4 or IPv6");
	bad("db.example:80", true, "numeric IPv4 or IPv6");
	bad("*:80", true, "0.0.0.0 or [::]");
	bad("::1:80", true, "between brackets");
	bad("[::1]", true, "the port is missing");
	bad("[::1", true, "']' is missing");
	bad("[::1]80", true, "text after ']'");
	bad("[]:80", true, "the address is missing");
	bad("[10.0.0.5]:80", true, "brackets are for IPv6");
	bad("[fe80::1%eth0]:80", true, "zone");
	bad("[::ffff:10.0.0.5]:80", true, "IPv4 address in IPv6 form");
	bad("[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb]:80", true,
	    "numeric IPv4 or IPv6");
}

Test(endpoint, address_alone)
{
	struct cman_endpoint e = { .port_first = 1, .port_last = 1 };
	const char *why;

	cr_assert_eq(cman_address_parse("10.0.0.100", &e, &why), 0);
	cr_assert_eq(e.family, AF_INET);
	cr_assert_eq(e.port_first, 0);
	cr_assert_eq(cman_address_parse("fe80::1", &e, &why), 0);
	cr_assert_eq(e.family, AF_INET6);
	cr_assert_eq(cman_address_parse("10.0.0.100:80", &e, &why), -EINVAL);
	cr_assert(strstr(why, "port is not allowed"));
	cr_assert_eq(cman_address_parse("[::1]:80", &e, &why), -EINVAL);
	cr_assert(strstr(why, "port is not allowed"));
	cr_assert_eq(cman_address_parse("", &e, &why), -EINVAL);
	cr_assert_eq(cman_address_parse("10.0.0.1/8", &e, &why), -EINVAL);
}

static uint32_t prefix(const char *text)
{
	const char *why = "";
	uint8_t addr[16];
	uint32_t len;

	cr_assert_eq(cman_prefix_parse(text, addr, &len, &why), 0, "%s: %s", text, why);
	return len;
}

static void bad_prefix(const char *text, const char *reason)
{
	uint32_t len = 4711;
	const char *why = NULL;
	uint8_t addr[16];

	cr_assert_eq(cman_prefix_parse(text, addr, &len, &why), -EINVAL, "%s", text);
	cr_assert(why && strstr(why, reason), "%s: %s, not %s", text, why, reason);
	cr_assert_eq(len, 4711);
}

Test(endpoint, prefixes)
{
	cr_assert_eq(prefix("10.0.0.0/8"), 104);
	cr_assert_eq(prefix("0.0.0.0/0"), 96);
	cr_assert_eq(prefix("10.1.2.3"), 128);
	cr_assert_eq(prefix("10.1.2.3/32"), 128);
	cr_assert_eq(prefix("10.1.2.2/31"), 127);
	cr_assert_eq(prefix("::/0"), 0);
	cr_assert_eq(prefix("2001:db8::/32"), 32);
	cr_assert_eq(prefix("::1"), 128);
	bad_prefix("10.0.0.1/8", "behind the prefix");
	bad_prefix("10.1.2.3/31", "behind the prefix");
	bad_prefix("2001:db8::1/64", "behind the prefix");
	bad_prefix("10.0.0.0/33", "/0 to /32");
	bad_prefix("::/129", "/0 to /128");
	bad_prefix("10.0.0.0/", "bad prefix length");
	bad_prefix("10.0.0.0/-1", "bad prefix length");
	bad_prefix("10.0.0.0/8x", "bad prefix length");
	bad_prefix("10.0.0.0/4294967304", "bad prefix length");
	bad_prefix("/8", "address is missing");
	bad_prefix("", "address is missing");
	bad_prefix("::ffff:10.0.0.0/104", "IPv4 address in IPv6 form");
	bad_prefix("*", "'*' is no address");
}

Test(endpoint, format)
{
	static const char *const texts[] = { "10.0.0.5:5432",
					     "[::1]:80",
					     "[2001:db8::1]:65535",
					     "0.0.0.0:1",
					     "255.255.255.255:65535",
					     "[::]:1",
					     "[1111:2222:3333:4444:5555:6666:7777:8888]:65535" };
	char buf[CMAN_ENDPOINT_TEXT];
	struct cman_endpoint e;
	size_t i;

	for (i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		e = good(texts[i]);
		cr_assert_str_eq(cman_endpoint_format(e.addr, e.port_first, buf), texts[i]);
	}
	e = good("10.0.0.5:1");
	cr_assert_str_eq(cman_endpoint_format(e.addr, 0, buf), "10.0.0.5");
	e = good("[::1]:1");
	cr_assert_str_eq(cman_endpoint_format(e.addr, 0, buf), "::1");
}
