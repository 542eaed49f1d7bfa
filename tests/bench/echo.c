/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bare peers that the HTTP edge is measured against: libmicrohttpd with its
 * own threads, answering every POST with a fixed small JSON body and the
 * headers of etcd's gateway.
 *
 *   bench_echo [--suspend] [--threads N] [--port N]
 *
 * With --suspend each request is suspended, handed to another thread, and
 * resumed from there. The port is printed; the program runs until it is
 * interrupted.
 */
#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char BODY[] =
	"{\"header\":{\"cluster_id\":\"14841639068965178418\",\"member_id\":\"10276657743932975437\","
	"\"revision\":\"2\",\"raft_term\":\"2\"},\"kvs\":[{\"key\":\"YQ==\",\"create_revision\":\"2\","
	"\"mod_revision\":\"2\",\"version\":\"1\",\"value\":\"YQ==\"}],\"count\":\"1\"}";

struct request {
	struct request *next;
	struct MHD_Connection *connection;
	bool complete;
	bool resumed;
};

/* Requests handed to the other thread. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t filled = PTHREAD_COND_INITIALIZER;
static struct request *waiting;
static bool suspending;
static bool stopping;

static void *resume_requests(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&lock);
	while (!stopping || waiting != NULL) {
		struct request *request = waiting;

		waiting = NULL;
		if (request == NULL) {
			pthread_cond_wait(&filled, &lock);
			continue;
		}
		pthread_mutex_unlock(&lock);
		while (request != NULL) {
			struct request *next = request->next;

			request->resumed = true;
			MHD_resume_connection(request->connection);
			request = next;
		}
		pthread_mutex_lock(&lock);
	}
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void hand_over(struct request *request)
{
	MHD_suspend_connection(request->connection);
	pthread_mutex_lock(&lock);
	request->next = waiting;
	waiting = request;
	if (request->next == NULL)
		pthread_cond_signal(&filled);
	pthread_mutex_unlock(&lock);
}

static enum MHD_Result reply(struct MHD_Connection *connection)
{
	struct MHD_Response *response;
	enum MHD_Result result;
	char *body = malloc(sizeof BODY);

	if (body == NULL)
		return MHD_NO;
	memcpy(body, BODY, sizeof BODY);
	response = MHD_create_response_from_buffer(sizeof BODY - 1, body, MHD_RESPMEM_MUST_FREE);
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

static enum MHD_Result handle(void *arg, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *data, size_t *data_len,
                              void **context)
{
	struct request *request = *context;

	(void)arg;
	(void)url;
	(void)method;
	(void)version;
	(void)data;
	if (request == NULL) {
		request = calloc(1, sizeof *request);
		*context = request;
		if (request == NULL)
			return MHD_NO;
		request->connection = connection;
		return MHD_YES;
	}
	if (*data_len > 0) {
		*data_len = 0;
		return MHD_YES;
	}
	if (suspending && !request->complete) {
		request->complete = true;
		hand_over(request);
		return MHD_YES;
	}
	if (suspending && !request->resumed)
		return MHD_YES;
	return reply(connection);
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

static void serve(unsigned threads, unsigned port)
{
	unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME;
	struct MHD_Daemon *daemon;
	sigset_t signals;
	int received;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	daemon = MHD_start_daemon(flags, (uint16_t)port, NULL, NULL, handle, NULL, /* */
	                          MHD_OPTION_THREAD_POOL_SIZE, threads > 1 ? threads : 0U,
	                          MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)8192, /* */
	                          MHD_OPTION_CONNECTION_TIMEOUT, 300U,              /* */
	                          MHD_OPTION_NOTIFY_COMPLETED, completed, NULL,     /* */
	                          MHD_OPTION_END);
	if (daemon == NULL) {
		fprintf(stderr, "bench_echo: cannot start\n");
		exit(1);
	}
	printf("%u\n", MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
	fflush(stdout);
	sigwait(&signals, &received);
	MHD_stop_daemon(daemon);
}

int main(int argc, char **argv)
{
	unsigned threads = 1, port = 0;
	pthread_t thread;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--suspend") == 0)
			suspending = true;
		else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
			threads = (unsigned)atoi(argv[++i]);
		else if (strcmp(argv[i], "--port") == 0 && i + 1 < argc)
			port = (unsigned)atoi(argv[++i]);
		else
			return 2;
	}
	if (suspending && pthread_create(&thread, NULL, resume_requests, NULL) != 0)
		return 1;
	serve(threads, port);
	if (suspending) {
		pthread_mutex_lock(&lock);
		stopping = true;
		pthread_cond_signal(&filled);
		pthread_mutex_unlock(&lock);
		pthread_join(thread, NULL);
	}
	return 0;
}
