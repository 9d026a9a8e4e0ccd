/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the tests of cmanctl's tables: formats of sizes, ages and durations at their borders, and
 * what a table looks like when there is room, when there is little, and with hostile text.
 */
#include <criterion/criterion.h>

#include "tools/cmanctl/table.c"

static const struct table_column columns[] = {
	{ .title = "ID", .key = "id", .whole = true },
	{ .title = "CLIENT", .key = "client" },
	{ .title = "UP", .key = "up", .kind = TABLE_SIZE, .drop = 1 },
	{ .title = "AGE", .key = "times.age_s", .kind = TABLE_AGE, .drop = 2 },
	{ .title = "TLS", .key = "tls", .kind = TABLE_TLS, .if_any = true },
	{ 0 },
};

static char *print(const char *json, unsigned int width)
{
	json_t *rows = json_loads(json, 0, NULL);
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	cr_assert(rows && f);
	cr_assert_eq(table_print_json(columns, rows, f, width), 0);
	fclose(f);
	json_decref(rows);
	return text;
}

static void expect(const char *json, unsigned int width, const char *want)
{
	char *text = print(json, width);

	cr_expect_str_eq(text, want, "got:\n%swanted:\n%s", text, want);
	free(text);
}

Test(format, sizes)
{
	static const struct {
		uint64_t bytes;
		const char *want;
	} cases[] = {
		{ 0, "0" },
		{ 999, "999" },
		{ 1000, "1.0K" },
		{ 1024, "1.0K" },
		{ 10240, "10.0K" },
		{ 102297, "99.9K" },
		{ 102400, "100K" },
		{ 1022976, "999K" },
		{ 1023489, "1.0M" },
		{ 1 << 20, "1.0M" },
		{ 14889779, "14.2M" },
		{ 1ull << 40, "1.0T" },
		{ UINT64_MAX, "16.0E" },
	};
	char buf[TABLE_FORMAT];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_expect_str_eq(format_size(cases[i].bytes, buf), cases[i].want);
}

Test(format, ages)
{
	char buf[TABLE_FORMAT];

	cr_expect_str_eq(format_age(0, buf), "0s");
	cr_expect_str_eq(format_age(59, buf), "59s");
	cr_expect_str_eq(format_age(60, buf), "1m00s");
	cr_expect_str_eq(format_age(3599, buf), "59m59s");
	cr_expect_str_eq(format_age(3600, buf), "1h00m");
	cr_expect_str_eq(format_age(86399, buf), "23h59m");
	cr_expect_str_eq(format_age(86400, buf), "1d00h");
	cr_expect_str_eq(format_age(UINT64_MAX, buf), "213503982334601d07h");
}

Test(format, durations)
{
	char buf[TABLE_FORMAT];

	cr_expect_str_eq(format_duration(0, buf), "0 us");
	cr_expect_str_eq(format_duration(999, buf), "999 us");
	cr_expect_str_eq(format_duration(1000, buf), "1.0 ms");
	cr_expect_str_eq(format_duration(38211, buf), "38.2 ms");
	cr_expect_str_eq(format_duration(250000, buf), "250 ms");
	cr_expect_str_eq(format_duration(1250000, buf), "1.2 s");
}

#define ROWS \
	"[{\"id\":\"01\",\"client\":\"10.1.2.3:40000\",\"up\":5,\"times\":{\"age_s\":61}," \
	"\"tls\":null}," \
	"{\"id\":\"1234\",\"client\":\"[::1]:1\",\"up\":123456,\"times\":{\"age_s\":5}," \
	"\"tls\":null}]"

Test(table, room)
{
	expect(ROWS, 0,
	       "ID    CLIENT            UP    AGE\n"
	       "01    10.1.2.3:40000     5  1m01s\n"
	       "1234  [::1]:1         121K     5s\n");
	expect(ROWS, 33,
	       "ID    CLIENT            UP    AGE\n"
	       "01    10.1.2.3:40000     5  1m01s\n"
	       "1234  [::1]:1         121K     5s\n");
}

Test(table, columns_are_left_out_by_their_order)
{
	expect(ROWS, 32,
	       "ID    CLIENT            UP\n"
	       "01    10.1.2.3:40000     5\n"
	       "1234  [::1]:1         121K\n");
	expect(ROWS, 25,
	       "ID    CLIENT\n"
	       "01    10.1.2.3:40000\n"
	       "1234  [::1]:1\n");
}

Test(table, text_is_cut_but_not_what_is_whole)
{
	expect(ROWS, 14,
	       "ID    CLIENT\n"
	       "01    10.1.2.~\n"
	       "1234  [::1]:1\n");
	/* never below the least width */
	expect(ROWS, 1,
	       "ID    CLIENT\n"
	       "01    10.1.~\n"
	       "1234  [::1]~\n");
}

Test(table, missing_members_and_wrong_types)
{
	expect("[{\"id\":7,\"client\":[\"a\",\"b\"],\"up\":\"many\",\"times\":[]}, {}]", 0,
	       "ID  CLIENT    UP  AGE\n"
	       "7   a, b    many    -\n"
	       "-   -          -    -\n");
	expect("[]", 0, "ID  CLIENT  UP  AGE\n");
	expect("{}", 0, "ID  CLIENT  UP  AGE\n");
	expect("[{\"up\":-5}]", 0,
	       "ID  CLIENT  UP  AGE\n"
	       "-   -        0    -\n");
}

Test(table, a_column_appears_when_a_row_has_it)
{
	expect("[{\"id\":\"1\",\"tls\":{\"version\":\"1.3\",\"cipher\":\"x\",\"engine\":\"ktls\"}},"
	       "{\"id\":\"2\",\"tls\":null}]",
	       0,
	       "ID  CLIENT  UP  AGE  TLS\n"
	       "1   -        -    -  1.3/ktls\n"
	       "2   -        -    -  -\n");
}

Test(table, characters_not_bytes_and_no_control)
{
	expect("[{\"id\":\"\\u00fc\\u00e4\",\"client\":\"a\\u001b[31m\\nb\"},{\"id\":\"xyz\"}]", 0,
	       "ID   CLIENT    UP  AGE\n"
	       "üä   a?[31m?b   -    -\n"
	       "xyz  -          -    -\n");
}

Test(table, cut_in_the_middle_of_utf8)
{
	expect("[{\"id\":\"1\",\"client\":\"\\u00fc\\u00fc\\u00fc\\u00fc\\u00fc\\u00fc\\u00fc"
	       "\\u00fc\"}]",
	       9,
	       "ID  CLIENT\n"
	       "1   üüüüü~\n");
}
