/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives a stopped server's database very many versions of keys, quickly: by
 * the store's own hand (state/write.h), but without a journal and without
 * waiting for the disk. What is read and measured afterwards is the same as if
 * clients had put it: each version is a revision of its own, and the keys are
 * gone through again and again.
 *
 *   fill --dir DIR --keys N --versions N       after a first, clean start and
 *                                              stop of the server on DIR
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "state/store.h"
#include "state/write.h"

enum { VALUE_BYTES = 256, KEY_BYTES = 12, TRANSACTION_PUTS = 100000 };

static const char UNSAFE[] = "PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF;";

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "fill: %s\n", what);
	exit(1);
}

static void check(enum status_code status)
{
	if (status != STATUS_OK)
		fail(status_code_text(status));
}

static void make_key(uint8_t key[KEY_BYTES], int64_t number)
{
	memcpy(key, "key", 3);
	for (int i = KEY_BYTES - 1; i >= 3; i--, number /= 10)
		key[i] = (uint8_t)('0' + number % 10);
}

static void put(struct store *st, struct arena *arena, int64_t number)
{
	Pb__PutRequest request = PB__PUT_REQUEST__INIT;
	Pb__PutResponse *response;
	uint8_t value[VALUE_BYTES], key[KEY_BYTES];

	make_key(key, number);
	memset(value, (int)('a' + number % 26), sizeof value);
	request.key = (ProtobufCBinaryData){.data = key, .len = sizeof key};
	request.value = (ProtobufCBinaryData){.data = value, .len = sizeof value};
	check(store_record_begin(st, false));
	check(write_put(st, &request, arena, &response));
	check(store_record_end(st, false, false));
	arena_reset(arena);
}

static void fill(struct store *st, int64_t keys, int64_t versions)
{
	static max_align_t scratch[256];
	int64_t total = keys * versions;
	struct arena arena;

	arena_init(&arena, 1 << 20, scratch, sizeof scratch);
	for (int64_t place = 0; place < total; place++) {
		if (place % TRANSACTION_PUTS == 0)
			check(store_begin(st));
		put(st, &arena, place % keys);
		if (place % TRANSACTION_PUTS != TRANSACTION_PUTS - 1 && place + 1 < total)
			continue;
		check(store_commit(st));
		if (isatty(STDERR_FILENO))
			fprintf(stderr, "\r  %" PRId64 " of %" PRId64 " puts ", place + 1, total);
	}
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r%40s\r", "");
}

int main(int argc, char **argv)
{
	static const struct option OPTIONS[] = {
		{"dir", required_argument, NULL, 'd'},
		{"keys", required_argument, NULL, 'k'},
		{"versions", required_argument, NULL, 'v'},
		{0},
	};
	struct store_options options = {0};
	int64_t keys = 0, versions = 1;
	struct store *st;
	int option;

	while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
		if (option == 'd')
			options.dir = optarg;
		else if (option == 'k')
			keys = strtoll(optarg, NULL, 10);
		else if (option == 'v')
			versions = strtoll(optarg, NULL, 10);
	}
	if (options.dir == NULL || keys < 1 || versions < 1)
		fail("usage: fill --dir DIR --keys N [--versions N]");
	check(store_open(&options, &st));
	if (sqlite3_exec(st->view.db, UNSAFE, NULL, NULL, NULL) != SQLITE_OK)
		fail(sqlite3_errmsg(st->view.db));
	fill(st, keys, versions);
	store_close(st);
	return 0;
}
