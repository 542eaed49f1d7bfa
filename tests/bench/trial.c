/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference trial: what one gets by putting libmicrohttpd, jansson and
 * SQLite together with care and adding nothing. It serves /v3/kv/range and
 * /v3/kv/put of single keys, durably, with etcd's answers and headers; it has
 * no options of a request, no revisions to read at, no errors worth the name.
 * The server is measured against it: what it costs more is what its features,
 * its checks and its layers cost.
 *
 *   trial --dir DIR [--port N]        prints the port it listens on
 *
 * One event loop parses, reads and answers. A put is suspended and queued; one
 * writer takes all that is queued into a transaction with synchronous=FULL,
 * and hands the whole group back to the loop in one step.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <microhttpd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { BODY_BYTES = 2048, BLOB_BYTES = 1536, ANSWER_BYTES = 4096 };

struct blob {
	size_t len;
	uint8_t data[BLOB_BYTES];
};

enum stage { STAGE_BODY, STAGE_QUEUED, STAGE_DONE };

struct request {
	struct request *next;
	struct MHD_Connection *connection;
	enum stage stage;
	bool puts;
	int64_t revision;
	struct blob key, value;
	size_t body_len;
	char body[BODY_BYTES];
};

static const char SETTINGS[] =
	"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA mmap_size=1099511627776;"
	"PRAGMA wal_autocheckpoint=4096;";
static const char TABLES[] = "CREATE TABLE IF NOT EXISTS current (key BLOB PRIMARY KEY, mod INTEGER,"
			     " created INTEGER, version INTEGER, value BLOB) WITHOUT ROWID;"
			     "CREATE TABLE IF NOT EXISTS history (mod INTEGER PRIMARY KEY, created INTEGER,"
			     " version INTEGER, key BLOB, value BLOB);";
static const char GET[] = "SELECT mod, created, version, value FROM current WHERE key = ?1";
static const char PUT[] = "INSERT INTO current VALUES (?1, ?2, ?2, 1, ?3)"
			  " ON CONFLICT DO UPDATE SET mod = ?2, version = version + 1, value = ?3";
static const char KEEP[] =
	"INSERT INTO history SELECT mod, created, version, key, value FROM current WHERE key = ?1";

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t filled = PTHREAD_COND_INITIALIZER;
static struct request *queue, *done; /* guarded by lock; newest first */
static int wake_fd;                  /* tells the loop that 'done' is filled */
static _Atomic int64_t revision = 1; /* of the last commit */
static volatile sig_atomic_t stopping;
static sqlite3 *reader, *writer;
static sqlite3_stmt *get;

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "trial: %s\n", what);
	exit(1);
}

/* ---- The database ---- */

static sqlite3 *open_database(const char *dir)
{
	char path[4096];
	sqlite3 *db;

	snprintf(path, sizeof path, "%s/trial.db", dir);
	if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
	                    "unix-excl") != SQLITE_OK ||
	    sqlite3_exec(db, SETTINGS, NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_exec(db, TABLES, NULL, NULL, NULL) != SQLITE_OK)
		fail("cannot open the database");
	return db;
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *stmt;

	if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL) != SQLITE_OK)
		fail(sqlite3_errmsg(db));
	return stmt;
}

static void run(sqlite3_stmt *stmt)
{
	if (sqlite3_step(stmt) != SQLITE_DONE)
		fail("cannot write the database");
	sqlite3_reset(stmt);
}

/* The queue in order of arrival; NULL when the program ends. */
static struct request *take_queue(void)
{
	struct request *taken, *ordered = NULL;

	pthread_mutex_lock(&lock);
	while (queue == NULL && !stopping)
		pthread_cond_wait(&filled, &lock);
	taken = queue;
	queue = NULL;
	pthread_mutex_unlock(&lock);
	while (taken != NULL) {
		struct request *next = taken->next;

		taken->next = ordered;
		ordered = taken;
		taken = next;
	}
	return ordered;
}

static void give_back(struct request *first)
{
	struct request *last = first;

	while (last->next != NULL)
		last = last->next;
	pthread_mutex_lock(&lock);
	last->next = done;
	done = first;
	pthread_mutex_unlock(&lock);
	eventfd_write(wake_fd, 1);
}

static void *write_groups(void *arg)
{
	sqlite3_stmt *begin = prepare(writer, "BEGIN IMMEDIATE"), *commit = prepare(writer, "COMMIT");
	sqlite3_stmt *put = prepare(writer, PUT), *keep = prepare(writer, KEEP);
	struct request *group;
	int64_t newest = atomic_load(&revision);

	(void)arg;
	while ((group = take_queue()) != NULL) {
		run(begin);
		for (struct request *request = group; request != NULL; request = request->next) {
			request->revision = ++newest;
			sqlite3_bind_blob(put, 1, request->key.data, (int)request->key.len, SQLITE_STATIC);
			sqlite3_bind_int64(put, 2, newest);
			sqlite3_bind_blob(put, 3, request->value.data, (int)request->value.len,
			                  SQLITE_STATIC);
			run(put);
			sqlite3_bind_blob(keep, 1, request->key.data, (int)request->key.len, SQLITE_STATIC);
			run(keep);
		}
		run(commit);
		atomic_store(&revision, newest);
		give_back(group);
	}
	sqlite3_finalize(begin);
	sqlite3_finalize(commit);
	sqlite3_finalize(put);
	sqlite3_finalize(keep);
	return NULL;
}

/* ---- Texts ---- */

static bool decode_base64(const json_t *text, struct blob *blob)
{
	static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	static uint8_t values[256];
	const char *from = json_string_value(text);
	uint32_t word = 0;
	unsigned bits = 0;

	for (uint8_t i = 0; values['/'] == 0 && i < 64; i++)
		values[(uint8_t)ALPHABET[i]] = i;
	blob->len = 0;
	for (; from != NULL && *from != '\0' && *from != '='; from++) {
		word = word << 6 | values[(uint8_t)*from];
		bits += 6;
		if (bits < 8)
			continue;
		bits -= 8;
		if (blob->len == sizeof blob->data)
			return false;
		blob->data[blob->len++] = (uint8_t)(word >> bits);
	}
	return from != NULL;
}

static char *add_text(char *to, const char *text)
{
	return stpcpy(to, text);
}

static char *add_number(char *to, int64_t number)
{
	char digits[24], *at = digits + sizeof digits;

	do {
		*--at = (char)('0' + number % 10);
		number /= 10;
	} while (number > 0);
	return mempcpy(to, at, (size_t)(digits + sizeof digits - at));
}

static char *add_base64(char *to, const uint8_t *from, size_t len)
{
	static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (; len >= 3; from += 3, len -= 3) {
		uint32_t word = (uint32_t)from[0] << 16 | (uint32_t)from[1] << 8 | from[2];

		*to++ = ALPHABET[word >> 18];
		*to++ = ALPHABET[word >> 12 & 63];
		*to++ = ALPHABET[word >> 6 & 63];
		*to++ = ALPHABET[word & 63];
	}
	if (len > 0) {
		uint32_t word = (uint32_t)from[0] << 16 | (len > 1 ? (uint32_t)from[1] << 8 : 0);

		*to++ = ALPHABET[word >> 18];
		*to++ = ALPHABET[word >> 12 & 63];
		*to++ = len > 1 ? ALPHABET[word >> 6 & 63] : '=';
		*to++ = '=';
	}
	return to;
}

static char *add_header(char *to, int64_t at)
{
	to = add_text(to, "{\"header\":{\"cluster_id\":\"14841639068965178418\","
	                  "\"member_id\":\"10276657743932975437\",\"revision\":\"");
	to = add_number(to, at);
	return add_text(to, "\",\"raft_term\":\"2\"}");
}

/* ---- Requests ---- */

static enum MHD_Result answer(struct MHD_Connection *connection, char *text, size_t len)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE);
	enum MHD_Result result;

	MHD_add_response_header(response, "Content-Type", "application/json");
	MHD_add_response_header(response, "Grpc-Metadata-Content-Type", "application/grpc");
	MHD_add_response_header(response, "Access-Control-Allow-Methods",
	                        "POST, GET, OPTIONS, PUT, DELETE");
	MHD_add_response_header(response, "Access-Control-Allow-Origin", "*");
	MHD_add_response_header(response, "Access-Control-Allow-Headers",
	                        "accept, content-type, authorization");
	result = MHD_queue_response(connection, MHD_HTTP_OK, response);
	MHD_destroy_response(response);
	return result;
}

static char *add_row(char *to, const struct blob *key)
{
	to = add_text(to, ",\"kvs\":[{\"key\":\"");
	to = add_base64(to, key->data, key->len);
	to = add_text(to, "\",\"create_revision\":\"");
	to = add_number(to, sqlite3_column_int64(get, 1));
	to = add_text(to, "\",\"mod_revision\":\"");
	to = add_number(to, sqlite3_column_int64(get, 0));
	to = add_text(to, "\",\"version\":\"");
	to = add_number(to, sqlite3_column_int64(get, 2));
	to = add_text(to, "\",\"value\":\"");
	to = add_base64(to, sqlite3_column_blob(get, 3), (size_t)sqlite3_column_bytes(get, 3));
	return add_text(to, "\"}],\"count\":\"1\"");
}

static enum MHD_Result answer_range(const struct request *request)
{
	char *text = malloc(ANSWER_BYTES), *to = text;

	if (text == NULL)
		return MHD_NO;
	to = add_header(to, atomic_load(&revision));
	sqlite3_bind_blob(get, 1, request->key.data, (int)request->key.len, SQLITE_STATIC);
	if (sqlite3_step(get) == SQLITE_ROW)
		to = add_row(to, &request->key);
	sqlite3_reset(get);
	to = add_text(to, "}");
	return answer(request->connection, text, (size_t)(to - text));
}

static enum MHD_Result answer_put(const struct request *request)
{
	char *text = malloc(ANSWER_BYTES), *to = text;

	if (text == NULL)
		return MHD_NO;
	to = add_text(add_header(to, request->revision), "}");
	return answer(request->connection, text, (size_t)(to - text));
}

static enum MHD_Result start_put(struct request *request)
{
	request->stage = STAGE_QUEUED;
	MHD_suspend_connection(request->connection);
	pthread_mutex_lock(&lock);
	request->next = queue;
	queue = request;
	if (request->next == NULL)
		pthread_cond_signal(&filled);
	pthread_mutex_unlock(&lock);
	return MHD_YES;
}

static enum MHD_Result start(struct request *request)
{
	json_t *root = json_loadb(request->body, request->body_len, 0, NULL);
	bool good = decode_base64(json_object_get(root, "key"), &request->key);

	if (good && request->puts)
		good = decode_base64(json_object_get(root, "value"), &request->value);
	json_decref(root);
	if (!good)
		return MHD_NO;
	return request->puts ? start_put(request) : answer_range(request);
}

static enum MHD_Result handle(void *arg, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *data, size_t *data_len,
                              void **context)
{
	struct request *request = *context;

	(void)arg;
	(void)method;
	(void)version;
	if (request == NULL) {
		*context = request = malloc(sizeof *request);
		if (request == NULL)
			return MHD_NO;
		request->connection = connection;
		request->stage = STAGE_BODY;
		request->puts = strcmp(url, "/v3/kv/put") == 0;
		request->body_len = 0;
		return MHD_YES;
	}
	if (*data_len > 0) {
		if (*data_len > sizeof request->body - request->body_len)
			return MHD_NO;
		memcpy(request->body + request->body_len, data, *data_len);
		request->body_len += *data_len;
		*data_len = 0;
		return MHD_YES;
	}
	if (request->stage == STAGE_BODY)
		return start(request);
	return request->stage == STAGE_DONE ? answer_put(request) : MHD_YES;
}

static void completed(void *arg, struct MHD_Connection *connection, void **context,
                      enum MHD_RequestTerminationCode code)
{
	(void)arg;
	(void)connection;
	(void)code;
	free(*context);
	*context = NULL;
}

/* ---- The loop ---- */

static void resume_done(void)
{
	struct request *request;
	eventfd_t ignored;

	eventfd_read(wake_fd, &ignored);
	pthread_mutex_lock(&lock);
	request = done;
	done = NULL;
	pthread_mutex_unlock(&lock);
	while (request != NULL) {
		struct request *next = request->next;

		request->stage = STAGE_DONE;
		MHD_resume_connection(request->connection);
		request = next;
	}
}

static void loop(struct MHD_Daemon *daemon)
{
	struct pollfd fds[] = {
		{.fd = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd, .events = POLLIN},
		{.fd = wake_fd, .events = POLLIN},
	};

	while (!stopping) {
		MHD_UNSIGNED_LONG_LONG wait_ms;
		bool busy = MHD_get_timeout(daemon, &wait_ms) == MHD_YES && wait_ms == 0;

		poll(fds, 2, busy ? 0 : 1000);
		if (fds[1].revents != 0)
			resume_done();
		MHD_run(daemon);
	}
}

static void on_signal(int signal_number)
{
	(void)signal_number;
	stopping = 1;
}

static struct MHD_Daemon *listen_on(unsigned port)
{
	/* Resumed by its own thread, the daemon needs no pipe to be woken by. */
	unsigned flags = (unsigned)MHD_USE_EPOLL | MHD_USE_TURBO |
	                 ((unsigned)MHD_ALLOW_SUSPEND_RESUME & ~(unsigned)MHD_USE_ITC);
	struct MHD_Daemon *daemon = MHD_start_daemon(flags, (uint16_t)port, NULL, NULL, handle, NULL,  /* */
	                                             MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)8192, /* */
	                                             MHD_OPTION_NOTIFY_COMPLETED, completed, NULL,     /* */
	                                             MHD_OPTION_END);

	if (daemon == NULL)
		fail("cannot listen");
	printf("%u\n", MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
	fflush(stdout);
	return daemon;
}

static void open_databases(const char *dir)
{
	sqlite3_stmt *newest;

	writer = open_database(dir);
	reader = open_database(dir);
	get = prepare(reader, GET);
	newest = prepare(reader, "SELECT coalesce(max(mod), 1) FROM history");
	if (sqlite3_step(newest) == SQLITE_ROW)
		atomic_store(&revision, sqlite3_column_int64(newest, 0));
	sqlite3_finalize(newest);
}

int main(int argc, char **argv)
{
	const char *dir = NULL;
	unsigned port = 0;
	pthread_t thread;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--dir") == 0)
			dir = argv[i + 1];
		else if (strcmp(argv[i], "--port") == 0)
			port = (unsigned)atoi(argv[i + 1]);
	}
	if (dir == NULL)
		fail("usage: trial --dir DIR [--port N]");
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	open_databases(dir);
	if (pthread_create(&thread, NULL, write_groups, NULL) != 0)
		fail("cannot start a thread");
	loop(listen_on(port));
	/* What was answered is durable. Whoever waits for an answer sees the connection close. */
	_exit(0);
}
