/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keys and records of TLS in hexadecimal:
 *	RFC 8448, 3 (Simple 1-RTT Handshake): application traffic secrets, keys, and every record that is
 *	sealed with them; NIST's CAVP vectors of the TLS 1.2 PRF (tls.rsp, [TLS 1.2, SHA-256] and
 *	[TLS 1.2, SHA-384], COUNT = 0: the key block)
 *	records of each suite, with what an opener has to say of them: made by a script with AES, GHASH,
 *	ChaCha20 and Poly1305 in plain Python, that shares no code with usr/tls or libcrypto's ciphers
 *	secrets after a KeyUpdate: of `openssl kdf`, see below
 */
#ifndef CMAN_TESTS_TLS_VECTORS_H
#define CMAN_TESTS_TLS_VECTORS_H

#include <criterion/criterion.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct tls_keys_vector {
	const char *name;
	uint16_t suite;
	const char *secret, *key, *iv;
	const char *next; /* the secret after a KeyUpdate */
};

struct tls_block_vector { /* TLS 1.2 */
	const char *name;
	const char *master, *server_random, *client_random;
	const char *block;
	unsigned int hash_len;
};

struct tls_record_vector {
	const char *name;
	uint16_t suite;
	const char *secret; /* struct cman_tls_half */
	uint64_t seq, explicit_iv;
	uint8_t type;
	const char *plain, *record;
	int result; /* of opening */
	bool seals; /* sealing gives the same record: no padding, no form that we never make */
};

/* Bytes of @hex to @out; how many. */
static inline size_t tls_unhex(const char *hex, uint8_t *out, size_t size)
{
	size_t n = strlen(hex) / 2, i;
	unsigned int byte;

	cr_assert_leq(n, size);
	for (i = 0; i < n; i++) {
		cr_assert_eq(sscanf(hex + 2 * i, "%2x", &byte), 1);
		out[i] = (uint8_t)byte;
	}
	return n;
}

#define RFC8448_CLIENT "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5"
#define RFC8448_SERVER "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643"
#define SECRET_1301    /* AES_128_GCM, TLS 1.3 */ \
	"ce55e30ce7ead295830d7c2168cd3b797bd60051c41ef9624fc3bccba183dbe7"
#define SECRET_1302 /* AES_256_GCM, TLS 1.3 */ \
	"485b613f0d57aa561177d1300819ac59ed2f7c18256d5d52490aac3418d19116c82f04b740b5" \
	"2bd463b7b3f07f4234b8"
#define SECRET_1303 /* CHACHA20_POLY1305, TLS 1.3 */ \
	"f83d628b8db7a6afec805a20d58a0f1609a83b62271044b3db27b25e72dddab2"
#define SECRET_C02F /* AES_128_GCM, TLS 1.2 */ "2f7e76ca491db0ae8d2a572d09c8612191e8be17"
#define SECRET_C030 /* AES_256_GCM, TLS 1.2 */ \
	"18b1084a606f2aeaac6fe5251ac3a8bd887001d168c224ccd31339c9e7fb8924c0ff8584"
#define SECRET_CCA8 /* CHACHA20_POLY1305, TLS 1.2 */ \
	"c353a3f5fabc719e52bd6c9c57861839d40ff90af9dd31fd73674a0b9984d0bf4e63ff1d88ba" \
	"a4065e96e4d7"

/*
 * .next: openssl kdf -keylen 32 -kdfopt digest:SHA2-256 -kdfopt mode:EXPAND_ONLY -kdfopt hexkey:SECRET
 *	-kdfopt hexinfo:002011746c73313320747261666669632075706400 HKDF
 * with 48, SHA2-384 and 0030... for SHA-384: length, "tls13 traffic upd" with its length, no context.
 */
static const struct tls_keys_vector tls_keys_vectors[] = {
	{ "RFC 8448, client", 0x1301, RFC8448_CLIENT, "17422dda596ed5d9acd890e3c63f5051",
	  "5b78923dee08579033e523d9",
	  "fcdfcc72725aaee48bf64e4fd8b749cdbdbab39d90da0b26e2245ca6ea167207" },
	{ "RFC 8448, server", 0x1301, RFC8448_SERVER, "9f02283b6c9c07efc26bb9f2ac92e356",
	  "cf782b88dd83549aadf1e984",
	  "51921b8aa3001976eb401d0a4319a8516416a6c56001a357e5d162031e84f916" },
	{ "SHA-384", 0x1302, SECRET_1302,
	  "beaf747e5b6af6be249d313974beef55ad896d0db5e01e242d92e721c2f98a07",
	  "7f178e449585d805e917ff8f",
	  "70219599b9ad475dc61d4d2f155f5373334a113a1b89c2a0aba30830464c07e7"
	  "f969ccad201e53c511341b27eacd7efd" },
};

static const struct tls_block_vector tls_block_vectors[] = {
	{
		.name = "TLS 1.2, SHA-256",
		.master = "202c88c00f84a17a20027079604787461176455539e705be730890602c289a5001e34eeb3a04"
			  "3e5d52a65e66125188bf",
		.server_random = "ae6c806f8ad4d80784549dff28a4b58fd837681a51d928c3e30ee5ff14f39868",
		.client_random = "62e1fd91f23f558a605f28478c58cf72637b89784d959df7e946d3f07bd1b616",
		.block = "d06139889fffac1e3a71865f504aa5d0d2a2e89506c6f2279b670c3e1b74f531016a2530c51a"
			 "3a0f7e1d6590d0f0566b2f387f8d11fd4f731cdd572d2eae927f6f2f81410b25e6960be68985"
			 "add6c38445ad9f8c64bf8068bf9a6679485d966f1ad6f68b43495b10a683755ea2b858d70cca"
			 "c7ec8b053c6bd41ca299d4e51928",
		.hash_len = 32,
	},
	{
		.name = "TLS 1.2, SHA-384",
		.master = "b4d49bfa87747fe815457bc3da15073d6ac73389e703079a3503c09e14bd559a5b3c7c601c73"
			  "65f6ea8c68d3d9596827",
		.server_random = "1b1c8568344a65c30828e7483c0e353e2c68641c9551efae6927d9cd627a107c",
		.client_random = "954b5fe1849c2ede177438261f099a2fcd884d001b9fe1de754364b1f6a6dd8e",
		.block = "10fd89ef689c7ef033387b8a8f3e5e8e7c11f680f6bdd71fbac3246a73e98d45d03185dde686"
			 "e6b2369e4503e9dc5a6d2cee3e2bf2fa3f41d3de57dff3e197c8a9d5f74cc2d277119d894f85"
			 "84b07a0a5822f0bd68b3433ec6adaf5c9406c5f3ddbb71bbe17ce98f3d4d5893d3179ef369f5"
			 "7aad908e2bf710639100c3ce7e0c",
		.hash_len = 48,
	},
};

/* RFC 8448, 3: all records under the application traffic secrets, in their order */
static const struct tls_record_vector tls_rfc8448_records[] = {
	{
		.name = "the server's ticket",
		.suite = 0x1301,
		.secret = RFC8448_SERVER,
		.type = 22,
		.plain =
			"040000c90000001efad6aac502000000b22c035d829359ee5ff7af4ec900000000262a6494dc"
			"486d2c8a34cb33fa90bf1b0070ad3c498883c9367c09a2be785abc55cd226097a3a982117283"
			"f82a03a143efd3ff5dd36d64e861be7fd61d2827db279cce145077d454a3664d4e6da4d29ee0"
			"3725a6a4dafcd0fc67d2aea70529513e3da2677fa5906c5b3f7d8f92f228bda40dda721470f9"
			"fbf297b5aea617646fac5c03272e970727c621a79141ef5f7de6505e5bfbc388e93343694093"
			"934ae4d3570008002a000400000400",
		.record =
			"17030300de3a6b8f90414a97d6959c3487680de5134a2b240e6cffac116e95d41d6af8f6b580"
			"dcf3d11d63c758db289a015940252f55713e061dc13e078891a38efbcf5753ad8ef170ad3c73"
			"53d16d9da773b9ca7f2b9fa1b6c0d4a3d03f75e09c30ba1e62972ac46f75f7b981be63439b29"
			"99ce13064615139891d5e4c5b406f16e3fc181a77ca475840025db2f0a77f81b5ab05b94c013"
			"46755f69232c86519d86cbeeac87aac347d143f9605d64f650db4d023e70e952ca49fe513712"
			"1c74bc2697687e248746d6df353005f3bce18696129c8153556b3b6c6779b37bf15985684f",
		.seals = true,
	},
	{
		.name = "the client's data",
		.suite = 0x1301,
		.secret = RFC8448_CLIENT,
		.type = 23,
		.plain = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425"
			 "262728292a2b2c2d2e2f3031",
		.record = "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b4"
			  "6b395bd54a9a20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4",
		.seals = true,
	},
	{
		.name = "the server's data",
		.suite = 0x1301,
		.secret = RFC8448_SERVER,
		.seq = 1,
		.type = 23,
		.plain = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425"
			 "262728292a2b2c2d2e2f3031",
		.record = "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90"
			  "e6dffc602dcb501a59a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d",
		.seals = true,
	},
	{
		.name = "the client's close_notify",
		.suite = 0x1301,
		.secret = RFC8448_CLIENT,
		.seq = 1,
		.type = 21,
		.plain = "0100",
		.record = "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3",
		.seals = true,
	},
	{
		.name = "the server's close_notify",
		.suite = 0x1301,
		.secret = RFC8448_SERVER,
		.seq = 2,
		.type = 21,
		.plain = "0100",
		.record = "1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9",
		.seals = true,
	},
};

static const struct tls_record_vector tls_record_vectors[] = {
	{
		.name = "no content",
		.suite = 0x1301,
		.secret = SECRET_1301,
		.type = 23,
		.plain = "",
		.record = "170303001177024a580883d45373e1d891c446cbaa03",
		.seals = true,
	},
	{
		.name = "one byte",
		.suite = 0x1301,
		.secret = SECRET_1301,
		.seq = 0x1ull,
		.type = 23,
		.plain = "a3",
		.record = "170303001252d60b4577209595cb87148c5c2cfece6516",
		.seals = true,
	},
	{
		.name = "a block",
		.suite = 0x1301,
		.secret = SECRET_1301,
		.seq = 0xffull,
		.type = 23,
		.plain = "40dcc85cc22b2bcda95017d6bdc9a122",
		.record = "1703030021a617941fa8de53069e883bd25817beed319db33d3044d8e2ef2e1d7b52802fbdba",
		.seals = true,
	},
	{
		.name = "a block and a byte",
		.suite = 0x1301,
		.secret = SECRET_1301,
		.seq = 0xabcdefull,
		.type = 23,
		.plain = "4b94d996a1cf32feee911073997c1229d9",
		.record = "170303002201993f31d9172f154b05886f9bc785f084485a3dac9fe0d76b964e4f74fd8f025f"
			  "f3",
		.seals = true,
	},
	{
		.name = "close_notify",
		.suite = 0x1301,
		.secret = SECRET_1301,
		.seq = 0x7ull,
		.type = 21,
		.plain = "0100",
		.record = "1703030013dd6be4cdbd076d37c5885a2e168d822d1aef27",
		.seals = true,
	},
	{
		.name = "130 bytes, large number",
		.suite = 0x1301,
		.secret = SECRET_1301,
		.seq = 0x16a09e5ull,
		.type = 23,
		.plain = "a67d442e90d9082b75b47a221513f15b39ee5f30be14bbb2c9ad6069f869846fcfc372f8eeda"
			 "e094e63f64e56de9e8081a964f979d26602c5eeec41411573cb41150d324813118cf1aba94e0"
			 "b31a16557cf7c5b28fd78e700f2e8083cef5fcb659e68f7c35a51044b02d18cfda1c5b6c6280"
			 "18b73b7b3b5120b311ac604110929049",
		.record =
			"170303009330cad2c80c9eae4c6d642a1390ca2c7cfca9c362b7e4c37e6d0d94be8f375f28ad"
			"26ce613d82dc50a0935c08945e8c6f63d0a4030559181127f02f52abe5b8592c524444629419"
			"4733ce2d7d3456cfb2093a2841507c1acf5ddf02eefb8c8dd1a6baf45dc51364f39da65d0bf1"
			"a8fb73509f5ab59af67ab2c6954b8104ffec29f3a21d8891c58827bba156dd5b5230cb5a6c5a",
		.seals = true,
	},
	{
		.name = "one byte of padding",
		.suite = 0x1301,
		.secret = SECRET_1301,
		.seq = 0x9ull,
		.type = 23,
		.plain = "68656c6c6f",
		.record = "1703030017fbd31cff495232ed0f4abc7f134773b95648e45b9c2f11",
	},
	{
		.name = "padded alert",
		.suite = 0x1301,
		.secret = SECRET_1301,
		.seq = 0x9ull,
		.type = 21,
		.plain = "0100",
		.record = "170303003b92b665932645325def5e590a927e086f11c7c5a0992db87673ac19a2361fdf6bf2"
			  "141c6ea9b2e0d35384d571f036e3951b1817a68284801dad3192",
	},
	{
		.name = "padding behind no content",
		.suite = 0x1301,
		.secret = SECRET_1301,
		.seq = 0x9ull,
		.type = 23,
		.plain = "",
		.record = "170303005084b670932645325def5e590a927e086f11c7c5a0992db87673ac19a2361fdf6bf2"
			  "141c6ea9b2e0d35384d5200e9f45247a95143bac3f1fda1d9dbb8a53157daf7cdb20c3176dec"
			  "3ddf90f67b91ab3a74",
	},
	{
		.name = "zeros that are content",
		.suite = 0x1301,
		.secret = SECRET_1301,
		.seq = 0x9ull,
		.type = 22,
		.plain = "0000000000000000",
		.record = "170303001993b670932645325df97bbc98d50798b2df302b48960b24c59c",
	},
	{
		.name = "nothing inside",
		.suite = 0x1301,
		.secret = SECRET_1301,
		.seq = 0x9ull,
		.record = "1703030010c507e913edbb5964520b042123180085",
		.result = -EPROTO,
	},
	{
		.name = "nothing but padding",
		.suite = 0x1301,
		.secret = SECRET_1301,
		.seq = 0x9ull,
		.record = "170303003093b670932645325def5e590a927e086f11c7c5a0992db87673ac19a2361fdf6b96"
			  "7bd3795946ce5190931a9563befe06",
		.result = -EPROTO,
	},
	{
		.name = "change_cipher_spec inside",
		.suite = 0x1301,
		.secret = SECRET_1301,
		.seq = 0x9ull,
		.record = "170303001292a2c7bd24efc370c43fd5c7912f0e465ed5",
		.result = -EPROTO,
	},
	{
		.name = "unknown type inside",
		.suite = 0x1301,
		.secret = SECRET_1301,
		.seq = 0x9ull,
		.record = "1703030012ebae0705fa2d5145950b7c84aa4d642b6579",
		.result = -EPROTO,
	},
	{
		.name = "alert without content",
		.suite = 0x1301,
		.secret = SECRET_1301,
		.seq = 0x9ull,
		.record = "170303001386b67093ac58df21ee1f40fc5acc32b4f42382",
		.result = -EPROTO,
	},
	{
		.name = "handshake without content",
		.suite = 0x1301,
		.secret = SECRET_1301,
		.seq = 0x9ull,
		.record = "170303001185a08e77cf4a11b335972b590b1e912238",
		.result = -EPROTO,
	},
	{
		.name = "no content",
		.suite = 0x1302,
		.secret = SECRET_1302,
		.type = 23,
		.plain = "",
		.record = "170303001187d56b7d9d4bc3fcd2505fc17ae847677d",
		.seals = true,
	},
	{
		.name = "one byte",
		.suite = 0x1302,
		.secret = SECRET_1302,
		.seq = 0x1ull,
		.type = 23,
		.plain = "a3",
		.record = "17030300128826b44fdb563c76dcaa9b1846122efb4a8f",
		.seals = true,
	},
	{
		.name = "a block",
		.suite = 0x1302,
		.secret = SECRET_1302,
		.seq = 0xffull,
		.type = 23,
		.plain = "40dcc85cc22b2bcda95017d6bdc9a122",
		.record = "1703030021848f73153010e0336524e64eab88535a7a2cb85e85f8772a888080c3f031fea20c",
		.seals = true,
	},
	{
		.name = "a block and a byte",
		.suite = 0x1302,
		.secret = SECRET_1302,
		.seq = 0xabcdefull,
		.type = 23,
		.plain = "4b94d996a1cf32feee911073997c1229d9",
		.record = "1703030022340406a63304bb1b4449c4c291c8e75fe18b27c2c6918c9207156ae7eea5f22315"
			  "9c",
		.seals = true,
	},
	{
		.name = "close_notify",
		.suite = 0x1302,
		.secret = SECRET_1302,
		.seq = 0x7ull,
		.type = 21,
		.plain = "0100",
		.record = "17030300135f48eaaf1f29d94f1cc66efe332dc11766cc16",
		.seals = true,
	},
	{
		.name = "130 bytes, large number",
		.suite = 0x1302,
		.secret = SECRET_1302,
		.seq = 0x16a09e5ull,
		.type = 23,
		.plain = "a67d442e90d9082b75b47a221513f15b39ee5f30be14bbb2c9ad6069f869846fcfc372f8eeda"
			 "e094e63f64e56de9e8081a964f979d26602c5eeec41411573cb41150d324813118cf1aba94e0"
			 "b31a16557cf7c5b28fd78e700f2e8083cef5fcb659e68f7c35a51044b02d18cfda1c5b6c6280"
			 "18b73b7b3b5120b311ac604110929049",
		.record =
			"1703030093175a49a070b5968c6def7bd5bd300ad080b9e2e14ada3468dd0e91965dd37ee66c"
			"8cd0c73258bccb00882811b52eebaa7ce43e32313bd6ce1f2d2d6096280394d2e3f20d5ec990"
			"8d2ee0f13bcad12325c2012fe457abfe3c3b75b415cf53c20c516befd7599a5069927bcdde48"
			"43484ae73bdef54396a0264274bd1a5d596a10b4c3f1ff790578c7b5009929a280f3b9e4aa4a",
		.seals = true,
	},
	{
		.name = "one byte of padding",
		.suite = 0x1302,
		.secret = SECRET_1302,
		.seq = 0x9ull,
		.type = 23,
		.plain = "68656c6c6f",
		.record = "170303001724f04796caab6a2787969830172eb3e81939a05071b7b0",
	},
	{
		.name = "padded alert",
		.suite = 0x1302,
		.secret = SECRET_1302,
		.seq = 0x9ull,
		.type = 21,
		.plain = "0100",
		.record = "170303003b4d953efaa5bc6a1019fb334417e3e91fa93de9c3103630fd2671621acdee7e41ec"
			  "e6c0eb0dec90487dc575625a8c1bc3d735174721ad70688f32a3",
	},
	{
		.name = "padding behind no content",
		.suite = 0x1302,
		.secret = SECRET_1302,
		.seq = 0x9ull,
		.type = 23,
		.plain = "",
		.record = "17030300505b952bfaa5bc6a1019fb334417e3e91fa93de9c3103630fd2671621acdee7e41ec"
			  "e6c0eb0dec90487dc5758702fadb57f211ac8a3df751cec7fb832ac745823511b12c12814457"
			  "c44bef86eb5168ec70",
	},
	{
		.name = "zeros that are content",
		.suite = 0x1302,
		.secret = SECRET_1302,
		.seq = 0x9ull,
		.type = 22,
		.plain = "0000000000000000",
		.record = "17030300194c952bfaa5bc6a100ff34ca44c0c85a25aa5309ae3e9528609",
	},
	{
		.name = "nothing inside",
		.suite = 0x1302,
		.secret = SECRET_1302,
		.seq = 0x9ull,
		.record = "170303001035d2d0a69b8a2cc382a09f25c81fcb5a",
		.result = -EPROTO,
	},
	{
		.name = "nothing but padding",
		.suite = 0x1302,
		.secret = SECRET_1302,
		.seq = 0x9ull,
		.record = "17030300304c952bfaa5bc6a1019fb334417e3e91fa93de9c3103630fd2671621acdee7e4148"
			  "e928134de35e6f219ff93116dc6768",
		.result = -EPROTO,
	},
	{
		.name = "change_cipher_spec inside",
		.suite = 0x1302,
		.secret = SECRET_1302,
		.seq = 0x9ull,
		.record = "17030300124d818bbd90b5b6bf7d383b50f476f0869e93",
		.result = -EPROTO,
	},
	{
		.name = "unknown type inside",
		.suite = 0x1302,
		.secret = SECRET_1302,
		.seq = 0x9ull,
		.record = "1703030012348dcba40183b09df931b0f2ec6e24844adb",
		.result = -EPROTO,
	},
	{
		.name = "alert without content",
		.suite = 0x1302,
		.secret = SECRET_1302,
		.seq = 0x9ull,
		.record = "170303001359952b7991015047883f81068d8dc41b5f37f9",
		.result = -EPROTO,
	},
	{
		.name = "handshake without content",
		.suite = 0x1302,
		.secret = SECRET_1302,
		.seq = 0x9ull,
		.record = "17030300115a164fce2a328bcfa195abb2f4c4904615",
		.result = -EPROTO,
	},
	{
		.name = "no content",
		.suite = 0x1303,
		.secret = SECRET_1303,
		.type = 23,
		.plain = "",
		.record = "1703030011b1b91b9d7df330728f914bf38051475b16",
		.seals = true,
	},
	{
		.name = "one byte",
		.suite = 0x1303,
		.secret = SECRET_1303,
		.seq = 0x1ull,
		.type = 23,
		.plain = "a3",
		.record = "17030300120907559cc785f33a18ecb16afd6a14404cee",
		.seals = true,
	},
	{
		.name = "a block",
		.suite = 0x1303,
		.secret = SECRET_1303,
		.seq = 0xffull,
		.type = 23,
		.plain = "40dcc85cc22b2bcda95017d6bdc9a122",
		.record = "170303002175192cc2b0868c9529a1401ca34fe441f00cf657f7f97edc50a46cd0c68070043f",
		.seals = true,
	},
	{
		.name = "a block and a byte",
		.suite = 0x1303,
		.secret = SECRET_1303,
		.seq = 0x100000005ull,
		.type = 23,
		.plain = "4b94d996a1cf32feee911073997c1229d9",
		.record = "17030300228a485cc871306f5a8758146ab138a96712265f8d54511679777305c5ce4e057189"
			  "0e",
		.seals = true,
	},
	{
		.name = "close_notify",
		.suite = 0x1303,
		.secret = SECRET_1303,
		.seq = 0x7ull,
		.type = 21,
		.plain = "0100",
		.record = "170303001300d817deaac256d380ea1f762ed0a9ba8573fe",
		.seals = true,
	},
	{
		.name = "130 bytes, large number",
		.suite = 0x1303,
		.secret = SECRET_1303,
		.seq = 0xfffffffffffffffeull,
		.type = 23,
		.plain = "a67d442e90d9082b75b47a221513f15b39ee5f30be14bbb2c9ad6069f869846fcfc372f8eeda"
			 "e094e63f64e56de9e8081a964f979d26602c5eeec41411573cb41150d324813118cf1aba94e0"
			 "b31a16557cf7c5b28fd78e700f2e8083cef5fcb659e68f7c35a51044b02d18cfda1c5b6c6280"
			 "18b73b7b3b5120b311ac604110929049",
		.record =
			"170303009336ed3197fe68ec8885f90de5d92733265fa72d32a8714f3f1329bf038db45256f9"
			"a19efff977f764d02e703afa400292850277e3c2c79db18758b49cce071a529b5e85c6d2e34b"
			"72185019a34da87a813bec89df71203de8ab9db6ff6cbe62a874e7ae16ad2e7eccd7c4a071bc"
			"22b532841a9a091c39132e363ffd6ed2c677562ebd7296d1f7ebb1228b5bbbd20070938c67ff",
		.seals = true,
	},
	{
		.name = "one byte of padding",
		.suite = 0x1303,
		.secret = SECRET_1303,
		.seq = 0x9ull,
		.type = 23,
		.plain = "68656c6c6f",
		.record = "1703030017283523f35bad6f1c61657676bb7b5d3fc170b96dadae85",
	},
	{
		.name = "padded alert",
		.suite = 0x1303,
		.secret = SECRET_1303,
		.seq = 0x9ull,
		.type = 21,
		.plain = "0100",
		.record = "170303003b41505a9f34ba6faaca2c356c52e2f4357bedaab8e91d1ad0ef81ca50e1455f7ccd"
			  "0713bd699cfa098d81c39825781ac5bfb2fa15d5a7b6bb1b5dde",
	},
	{
		.name = "padding behind no content",
		.suite = 0x1303,
		.secret = SECRET_1303,
		.seq = 0x9ull,
		.type = 23,
		.plain = "",
		.record = "170303005057504f9f34ba6faaca2c356c52e2f4357bedaab8e91d1ad0ef81ca50e1455f7ccd"
			  "0713bd699cfa098d81c35a254b4e7eee18e81ab95b27a2d2ccdb3e60bba60af3ae882d70a2f0"
			  "6368ebe4545f289752",
	},
	{
		.name = "zeros that are content",
		.suite = 0x1303,
		.secret = SECRET_1303,
		.seq = 0x9ull,
		.type = 22,
		.plain = "0000000000000000",
		.record = "170303001940504f9f34ba6faadc1987e9b85233294d6bfc5dd4718b6f11",
	},
	{
		.name = "nothing inside",
		.suite = 0x1303,
		.secret = SECRET_1303,
		.seq = 0x9ull,
		.record = "17030300105777519533557ca84e66f3a62840d8c0",
		.result = -EPROTO,
	},
	{
		.name = "nothing but padding",
		.suite = 0x1303,
		.secret = SECRET_1303,
		.seq = 0x9ull,
		.record = "170303003040504f9f34ba6faaca2c356c52e2f4357bedaab8e91d1ad0ef81ca50e1455f7caa"
			  "78f712d3fb074ef580da5c8bc95ffe",
		.result = -EPROTO,
	},
	{
		.name = "change_cipher_spec inside",
		.suite = 0x1303,
		.secret = SECRET_1303,
		.seq = 0x9ull,
		.record = "17030300124144e42ffdd911d35db8894fea6111935566",
		.result = -EPROTO,
	},
	{
		.name = "unknown type inside",
		.suite = 0x1303,
		.secret = SECRET_1303,
		.seq = 0x9ull,
		.record = "1703030012384884778e928b44d7f2a6e5d7be5c34761d",
		.result = -EPROTO,
	},
	{
		.name = "alert without content",
		.suite = 0x1303,
		.secret = SECRET_1303,
		.seq = 0x9ull,
		.record = "170303001355504f3ae16b40dbf7f1a4e3b506a0428cc013",
		.result = -EPROTO,
	},
	{
		.name = "handshake without content",
		.suite = 0x1303,
		.secret = SECRET_1303,
		.seq = 0x9ull,
		.record = "170303001156fe4d6062d0f8c8976325a9455f7c82c4",
		.result = -EPROTO,
	},
	{
		.name = "no content",
		.suite = 0xc02f,
		.secret = SECRET_C02F,
		.type = 23,
		.plain = "",
		.record = "17030300180000000000000000821e06f858044c33a1321ba836396114",
		.seals = true,
	},
	{
		.name = "one byte",
		.suite = 0xc02f,
		.secret = SECRET_C02F,
		.seq = 0x1ull,
		.type = 23,
		.plain = "a3",
		.record = "170303001900000000000000013b17b1321b3696311221ea117b73355a4f",
		.seals = true,
	},
	{
		.name = "a block",
		.suite = 0xc02f,
		.secret = SECRET_C02F,
		.seq = 0xffull,
		.type = 23,
		.plain = "40dcc85cc22b2bcda95017d6bdc9a122",
		.record = "170303002800000000000000fff17793da4c266305a0c1973254d3f3a88419fdb268fede8974"
			  "f820053dd853c7",
		.seals = true,
	},
	{
		.name = "a block and a byte",
		.suite = 0xc02f,
		.secret = SECRET_C02F,
		.seq = 0x100000005ull,
		.type = 23,
		.plain = "4b94d996a1cf32feee911073997c1229d9",
		.record = "17030300290000000100000005b49ed95a2ee14a1fd0909b311efab903cbc5b126a378dc5d0c"
			  "32400d9305d6ac08",
		.seals = true,
	},
	{
		.name = "close_notify",
		.suite = 0xc02f,
		.secret = SECRET_C02F,
		.seq = 0x7ull,
		.type = 21,
		.plain = "0100",
		.record = "150303001a0000000000000007d16643b676aa5a7a400c4ec96205375a0e05",
		.seals = true,
	},
	{
		.name = "130 bytes, large number",
		.suite = 0xc02f,
		.secret = SECRET_C02F,
		.seq = 0xfffffffffffffffeull,
		.type = 23,
		.plain = "a67d442e90d9082b75b47a221513f15b39ee5f30be14bbb2c9ad6069f869846fcfc372f8eeda"
			 "e094e63f64e56de9e8081a964f979d26602c5eeec41411573cb41150d324813118cf1aba94e0"
			 "b31a16557cf7c5b28fd78e700f2e8083cef5fcb659e68f7c35a51044b02d18cfda1c5b6c6280"
			 "18b73b7b3b5120b311ac604110929049",
		.record =
			"170303009afffffffffffffffe7c5ecc10221d39323f47240f9f92fc5ff0c0c0244480cb571b"
			"c088f5be1e50da345d56820f82eb3610f33dbbcdba02fdcce2ee2bcd9155f119db2092d1228c"
			"1c4be6cd239313a6d40ae2419979db77028ffe5ac931e85a1bd3eb035ef82744bb405594447d"
			"53cb8fb0292cf2619597a7655bfa618c987fd7b78479818eb81f92a091bd4d18b28b668fa13f"
			"bb1be5e3039711",
		.seals = true,
	},
	{
		.name = "nonce goes on from the kernel's",
		.suite = 0xc02f,
		.secret = SECRET_C02F,
		.seq = 0x3ull,
		.explicit_iv = 0x8899aabbccddeeffull,
		.type = 23,
		.plain = "cd75e6c55aa9fc60a2003b779119415b7d410c86",
		.record = "170303002c8899aabbccddef02eaac7e5518094473e7f5af0860ffa471d207323dfc28220bfd"
			  "7165ec314665c33ecba755",
		.seals = true,
	},
	{
		.name = "nonce wraps",
		.suite = 0xc02f,
		.secret = SECRET_C02F,
		.seq = 0x11ull,
		.explicit_iv = 0xfffffffffffffffbull,
		.type = 23,
		.plain = "1d19dd7a231bfe47060be70dffa59397399f4bec",
		.record = "170303002c000000000000000c2e906784fade8b8f3815619db24e56465da06bb2e6415254f3"
			  "7065bdf0a4e9dcc305c678",
		.seals = true,
	},
	{
		.name = "alert without content",
		.suite = 0xc02f,
		.secret = SECRET_C02F,
		.seq = 0x9ull,
		.record = "15030300180000000000000009728683490a5de4062058ead82555b6e7",
		.result = -EPROTO,
	},
	{
		.name = "handshake without content",
		.suite = 0xc02f,
		.secret = SECRET_C02F,
		.seq = 0x9ull,
		.record = "16030300180000000000000009697c7ccdd7df23bea429a9bc297ca313",
		.result = -EPROTO,
	},
	{
		.name = "no content",
		.suite = 0xc030,
		.secret = SECRET_C030,
		.type = 23,
		.plain = "",
		.record = "1703030018000000000000000068831ce9f7645a251601bbc844205918",
		.seals = true,
	},
	{
		.name = "one byte",
		.suite = 0xc030,
		.secret = SECRET_C030,
		.seq = 0x1ull,
		.type = 23,
		.plain = "a3",
		.record = "17030300190000000000000001a1e78603d6aa668d65c73723100a614dda",
		.seals = true,
	},
	{
		.name = "a block",
		.suite = 0xc030,
		.secret = SECRET_C030,
		.seq = 0xffull,
		.type = 23,
		.plain = "40dcc85cc22b2bcda95017d6bdc9a122",
		.record = "170303002800000000000000ffb8e76561b509ba854b8dcd1085d6213affe25e364a733ce2d7"
			  "d463f9868c0940",
		.seals = true,
	},
	{
		.name = "a block and a byte",
		.suite = 0xc030,
		.secret = SECRET_C030,
		.seq = 0x100000005ull,
		.type = 23,
		.plain = "4b94d996a1cf32feee911073997c1229d9",
		.record = "170303002900000001000000057ede39d93e7dfdac9e79e4bbffe7beee5f5f8b0454ec987f6f"
			  "7655f5251359c078",
		.seals = true,
	},
	{
		.name = "close_notify",
		.suite = 0xc030,
		.secret = SECRET_C030,
		.seq = 0x7ull,
		.type = 21,
		.plain = "0100",
		.record = "150303001a0000000000000007d4bd8ae4a03eda4758997ba874ee780ea327",
		.seals = true,
	},
	{
		.name = "130 bytes, large number",
		.suite = 0xc030,
		.secret = SECRET_C030,
		.seq = 0xfffffffffffffffeull,
		.type = 23,
		.plain = "a67d442e90d9082b75b47a221513f15b39ee5f30be14bbb2c9ad6069f869846fcfc372f8eeda"
			 "e094e63f64e56de9e8081a964f979d26602c5eeec41411573cb41150d324813118cf1aba94e0"
			 "b31a16557cf7c5b28fd78e700f2e8083cef5fcb659e68f7c35a51044b02d18cfda1c5b6c6280"
			 "18b73b7b3b5120b311ac604110929049",
		.record =
			"170303009afffffffffffffffe19c3f6641596c23bd94ea1fd76eac2b23cce9dae4b2d426caf"
			"3cd06b55d131c0f611b075c8c74a68d12cdbde554e45bf12d108beba41e059593c2d9c8042be"
			"6b1ff19438df3ecf50723e93e4c60e4a78ed4c84565cf39881a93305c1c322552f7048658f82"
			"9a07115e3a84e280cc469fbaf3e3dce27405e80f303bb12bac3bd3b41d9d0592aaa0465e0909"
			"5c2f13137d8d8c",
		.seals = true,
	},
	{
		.name = "nonce goes on from the kernel's",
		.suite = 0xc030,
		.secret = SECRET_C030,
		.seq = 0x3ull,
		.explicit_iv = 0x8899aabbccddeeffull,
		.type = 23,
		.plain = "cd75e6c55aa9fc60a2003b779119415b7d410c86",
		.record = "170303002c8899aabbccddef02c88df6570b2dfc4af029d9eddab915fb986b26c25ca087b177"
			  "4d1e28d4631b155cb875e8",
		.seals = true,
	},
	{
		.name = "nonce wraps",
		.suite = 0xc030,
		.secret = SECRET_C030,
		.seq = 0x11ull,
		.explicit_iv = 0xfffffffffffffffbull,
		.type = 23,
		.plain = "1d19dd7a231bfe47060be70dffa59397399f4bec",
		.record = "170303002c000000000000000c341e75058617cb1f107cdb633f4eebeffa085b3860ce38c5f4"
			  "ea611071ddda6d227cba3e",
		.seals = true,
	},
	{
		.name = "alert without content",
		.suite = 0xc030,
		.secret = SECRET_C030,
		.seq = 0x9ull,
		.record = "15030300180000000000000009c4edd22bd35e592f45ada4499a9981d7",
		.result = -EPROTO,
	},
	{
		.name = "handshake without content",
		.suite = 0xc030,
		.secret = SECRET_C030,
		.seq = 0x9ull,
		.record = "1603030018000000000000000916f88ec9533fa56f7aa58f2642bc0c9c",
		.result = -EPROTO,
	},
	{
		.name = "no content",
		.suite = 0xcca8,
		.secret = SECRET_CCA8,
		.type = 23,
		.plain = "",
		.record = "1703030010ee17d2fc92df97b80ea8face2a0d5af3",
		.seals = true,
	},
	{
		.name = "one byte",
		.suite = 0xcca8,
		.secret = SECRET_CCA8,
		.seq = 0x1ull,
		.type = 23,
		.plain = "a3",
		.record = "1703030011e390b9a87cf1c3d312cffba4e5f5ead8b3",
		.seals = true,
	},
	{
		.name = "a block",
		.suite = 0xcca8,
		.secret = SECRET_CCA8,
		.seq = 0xffull,
		.type = 23,
		.plain = "40dcc85cc22b2bcda95017d6bdc9a122",
		.record = "17030300205ab3e05ec803c8752eb06bffc728468b340d4e77f6ff0ee88834155e77f60a52",
		.seals = true,
	},
	{
		.name = "a block and a byte",
		.suite = 0xcca8,
		.secret = SECRET_CCA8,
		.seq = 0x100000005ull,
		.type = 23,
		.plain = "4b94d996a1cf32feee911073997c1229d9",
		.record = "1703030021a19c8666846b3088105361af880ebbb588d00cd49d73e2ae534f73a4e1295eab36",
		.seals = true,
	},
	{
		.name = "close_notify",
		.suite = 0xcca8,
		.secret = SECRET_CCA8,
		.seq = 0x7ull,
		.type = 21,
		.plain = "0100",
		.record = "1503030012cc174bda296bfd413d5787246ef8e837aea1",
		.seals = true,
	},
	{
		.name = "130 bytes, large number",
		.suite = 0xcca8,
		.secret = SECRET_CCA8,
		.seq = 0xfffffffffffffffeull,
		.type = 23,
		.plain = "a67d442e90d9082b75b47a221513f15b39ee5f30be14bbb2c9ad6069f869846fcfc372f8eeda"
			 "e094e63f64e56de9e8081a964f979d26602c5eeec41411573cb41150d324813118cf1aba94e0"
			 "b31a16557cf7c5b28fd78e700f2e8083cef5fcb659e68f7c35a51044b02d18cfda1c5b6c6280"
			 "18b73b7b3b5120b311ac604110929049",
		.record =
			"1703030092d7cc5630e2b1aab5326a614261f3e0f727f4fd7e5e6386cf0f7bc701904ba4a906"
			"cbf2f6ea71fa5b4391569feb1678dffa5568ef8a9f397e09efdb154da64266ea7c5c789cc225"
			"00775fadfac83dd54e977bae0a7dfe9a018898636d2d25e82fd77bfd7034bd6df3710e12cec0"
			"71355e4439957fea3d0241d6b213cc3b15e5cf02eba65b8ad37371b5c951ac96f125b68fe6",
		.seals = true,
	},
	{
		.name = "alert without content",
		.suite = 0xcca8,
		.secret = SECRET_CCA8,
		.seq = 0x9ull,
		.record = "1503030010a69a28dbf116fb940bdf057d3f516d34",
		.result = -EPROTO,
	},
	{
		.name = "handshake without content",
		.suite = 0xcca8,
		.secret = SECRET_CCA8,
		.seq = 0x9ull,
		.record = "1603030010f8869bf1092157d977e43c275e2b1dcb",
		.result = -EPROTO,
	},
};

#endif
