/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop alternates between these: deliver mail, let the daemon run, let the
 * engine run what concerns its streams, send what came of it, and wait.
 *
 * It waits on an epoll instance of its own that holds the daemon's epoll, an
 * eventfd for mail, the sockets of streams, and every other client socket once
 * more, for hang-ups only: libmicrohttpd does not look at a suspended
 * connection, so a client that leaves would be noticed when its answer is sent.
 * The sockets are put in when the connection begins and leave by being closed,
 * which costs a request nothing.
 *
 * libmicrohttpd's timer restarts with every byte. It is used for "nothing
 * moves" only, while an answer is sent; how long a head or a body may take in
 * all is watched in connection.c.
 */
#include "edge/loop.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/metrics.h"
#include "edge/exchange.h"
#include "edge/listener.h"
#include "engine/engine.h"

enum {
	STALLED_SECONDS = 300, /* libmicrohttpd's: nothing was read or written */
	CHECK_MS = 1000,
	DRAIN_MS = 2000, /* for answers that clients are slow to take */
	SPINS = 32,      /* turns without a wait before hang-ups are looked at */
	LINGER_MS = 50,  /* suspending is worth it from here on */
	LINGER_MAX = 1024,
	EVENTS = 64,
	GATHER_US = 5000, /* messages for streams are made before they are sent */
	/* Holds a head of up to 7.5 KB, each header counted with 64 bytes of
	 * libmicrohttpd's own (doc/security.md); 10,000 idle connections take 84 MiB. */
	CONNECTION_MEMORY_BYTES = 8192,
};

/* What an epoll event carries: these two, or the id of a stream or a
 * connection, which are larger; the latter's is the largest. */
enum { EVENT_DAEMON = 0, EVENT_WAKE = 1 };

/* ---- Mail ---- */

void loop_post(struct loop *loop, struct mail *mail)
{
	struct mail *head = atomic_load_explicit(&loop->inbox, memory_order_relaxed);

	/* From the moment the mail can be seen, the loop may deliver it, and end. */
	atomic_fetch_add_explicit(&loop->posting, 1, memory_order_relaxed);
	do {
		mail->next = head;
	} while (!atomic_compare_exchange_weak(&loop->inbox, &head, mail));
	/* The loop says that it will sleep and then looks at the inbox; we fill
	 * the inbox and then look whether it sleeps. One of the two sees the other. */
	if (atomic_load(&loop->sleeping) && atomic_exchange(&loop->sleeping, false))
		eventfd_write(loop->wake_fd, 1);
	atomic_fetch_sub_explicit(&loop->posting, 1, memory_order_release);
}

static struct mail *reverse(struct mail *newest)
{
	struct mail *oldest = NULL;

	while (newest != NULL) {
		struct mail *next = newest->next;

		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	return oldest;
}

static void deliver_mail(struct loop *loop)
{
	struct mail *mail;

	if (atomic_load_explicit(&loop->inbox, memory_order_relaxed) == NULL)
		return;
	mail = reverse(atomic_exchange_explicit(&loop->inbox, NULL, memory_order_acquire));
	while (mail != NULL) {
		struct mail *next = mail->next; /* delivering may free it */

		mail->deliver(loop, mail);
		mail = next;
	}
}

/* ---- Connections ---- */

/* libmicrohttpd tells of the begin and the end of a connection. Without memory
 * it stays without our struct, and its first request is refused. */
static void on_connection(void *arg, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
	struct loop *loop = arg;
	bool given_away;

	loop->heard = true;
	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		const union MHD_ConnectionInfo *info =
			MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);

		loop->adding_seen = true;
		*context = connections_add(&loop->connections, info->connect_fd, loop->now_ms);
		return;
	}
	/* The socket of one that was given away is still counted. */
	given_away = *context != NULL && ((struct connection *)*context)->given_away;
	if (*context != NULL)
		connections_remove(&loop->connections, *context);
	*context = NULL;
	if (!given_away)
		listener_release_connection(loop->listener);
}

/* ---- New sockets ---- */

struct arrival {
	struct mail mail;
	int fd;
	struct sockaddr_storage addr;
	socklen_t addr_len;
};

static void refuse_socket(struct loop *loop, int fd)
{
	close(fd);
	metric_add(METRIC_CONNECTIONS_REFUSED, 1);
	listener_release_connection(loop->listener);
}

static void add_arrival(struct loop *loop, struct mail *mail)
{
	struct arrival *arrival = (struct arrival *)mail;

	loop->adding_seen = false;
	if (loop->stopping) {
		refuse_socket(loop, arrival->fd);
	} else if (MHD_add_connection(loop->daemon, arrival->fd, (struct sockaddr *)&arrival->addr,
	                              arrival->addr_len) != MHD_YES &&
	           !loop->adding_seen) {
		/* It has closed the socket, and told of it only if it told of its begin. */
		metric_add(METRIC_CONNECTIONS_REFUSED, 1);
		listener_release_connection(loop->listener);
	}
	free(arrival);
}

void loop_add_socket(struct loop *loop, int fd, const struct sockaddr *addr, socklen_t addr_len)
{
	struct arrival *arrival = malloc(sizeof *arrival);

	if (arrival == NULL) {
		refuse_socket(loop, fd);
		return;
	}
	*arrival = (struct arrival){.mail = {.deliver = add_arrival}, .fd = fd, .addr_len = addr_len};
	memcpy(&arrival->addr, addr, addr_len);
	loop_post(loop, &arrival->mail);
}

/* ---- Time ---- */

static void check_time(struct loop *loop)
{
	if (loop->now_ms < loop->next_check_ms)
		return;
	loop->next_check_ms = loop->now_ms + CHECK_MS;
	connections_cut_expired(&loop->connections, loop->now_ms);
	stream_set_check_phases(&loop->streams);
}

/* ---- Waiting ---- */

static void on_hang_up(struct loop *loop, uint64_t id)
{
	struct connection *connection = connections_find(&loop->connections, id);

	if (connection == NULL)
		return;
	connection->hung_up = true;
	if (connection->exchange != NULL)
		exchange_abandon(connection->exchange);
	else if (connection->phase == PHASE_IDLE)
		connections_set_phase(&loop->connections, connection, PHASE_LEFT, loop->now_ms);
}

static void on_event(struct loop *loop, const struct epoll_event *event)
{
	uint64_t id = event->data.u64;

	/* The daemon runs in every turn, and mail is delivered. */
	if (id == EVENT_DAEMON)
		loop->came_in = true;
	else if (id == EVENT_WAKE)
		return;
	else if (id >= STREAM_ID_MIN && id <= STREAM_ID_MAX)
		stream_set_event(&loop->streams, id, event->events);
	else
		on_hang_up(loop, id);
}

static void poll_events(struct loop *loop, int timeout_ms)
{
	struct epoll_event events[EVENTS];
	int count;

	engine_reader_rest(loop->reader);
	count = epoll_wait(loop->epoll_fd, events, EVENTS, timeout_ms);
	for (int i = 0; i < count; i++)
		on_event(loop, &events[i]);
}

/* How long nothing will be due: not the mail, not the engine, not a stream, not the
 * suspension of those who linger. */
static int quiet_ms(const struct loop *loop)
{
	const int64_t limit_ms = loop->lingering > 0 ? LINGER_MS : CHECK_MS;
	int64_t due_ms = loop->engine_due_ms;

	if (atomic_load(&loop->inbox) != NULL || atomic_load(&loop->reader_due))
		return 0;
	if (loop->streams.next_deadline_ms < due_ms)
		due_ms = loop->streams.next_deadline_ms;
	if (due_ms <= loop->now_ms)
		return 0;
	return (int)(due_ms - loop->now_ms < limit_ms ? due_ms - loop->now_ms : limit_ms);
}

bool loop_lets_linger(const struct loop *loop, int64_t since_ms)
{
	return loop->may_linger && loop->lingering <= LINGER_MAX && loop->now_ms - since_ms < LINGER_MS;
}

/* Whether the daemon has to run again at once. It does not tell of a request that
 * just went on, and always says yes while requests linger. Then an answer may still
 * have to be sent, or the connection's next request to be read; and when others are
 * being read or answered, or something else came in, only suspending those that
 * linger shows whether it is right. */
static bool is_busy(struct loop *loop)
{
	MHD_UNSIGNED_LONG_LONG daemon_ms;

	loop->may_linger = true;
	if (loop->resumed)
		return true;
	if (loop->lingering == 0)
		return MHD_get_timeout(loop->daemon, &daemon_ms) == MHD_YES && daemon_ms == 0;
	if (loop->runs_due > 0)
		return true;
	loop->may_linger = loop->moving == 0 && !loop->unexplained;
	loop->unexplained = false;
	return !loop->may_linger;
}

/* Waits for something to do; 'spins' counts the turns in which there was. */
static void wait_for_events(struct loop *loop, int *spins)
{
	if (is_busy(loop)) {
		if (++*spins < SPINS)
			return;
		*spins = 0;
		poll_events(loop, 0);
	} else {
		atomic_store(&loop->sleeping, true);
		poll_events(loop, quiet_ms(loop));
		atomic_store_explicit(&loop->sleeping, false, memory_order_relaxed);
	}
	loop->now_ms = clock_ms();
	loop->streams.now_ms = loop->now_ms;
}

/* ---- Streams ---- */

/* The engine's, on any thread. Asking again before it has run costs nothing. */
static void wake(void *arg)
{
	struct loop *loop = arg;

	if (atomic_exchange(&loop->reader_due, true))
		return;
	if (atomic_load(&loop->sleeping) && atomic_exchange(&loop->sleeping, false))
		eventfd_write(loop->wake_fd, 1);
}

/* Behind all else that a turn does, which may have made work for it. As long as
 * there is more it goes on for a moment: the more messages a client has, the
 * fewer system calls each of them costs. */
static void run_streams(struct loop *loop)
{
	int64_t until_us = 0;

	atomic_exchange(&loop->reader_due, false);
	do {
		loop->engine_due_ms = engine_reader_run(loop->reader, loop->now_ms);
		if (loop->engine_due_ms == 0 && until_us == 0)
			until_us = clock_us() + GATHER_US;
	} while (loop->engine_due_ms == 0 && clock_us() < until_us);
	stream_set_check_deadlines(&loop->streams);
	/* Clients that kept up again have let the engine go on. */
	if (stream_set_settle(&loop->streams))
		loop->engine_due_ms = 0;
}

/* ---- Draining and stopping ---- */

static void check_drained(struct loop *loop)
{
	if (loop->drained == NULL)
		return;
	if ((loop->exchanges > 0 || loop->streams.count > 0) &&
	    (loop->in_engine > 0 || loop->now_ms < loop->drain_until_ms))
		return;
	sem_post(loop->drained);
	loop->drained = NULL;
}

struct drain_mail {
	struct mail mail;
	sem_t *drained;
};

static void begin_drain(struct loop *loop, struct mail *mail)
{
	struct drain_mail *drain = (struct drain_mail *)mail;

	connections_cut_idle(&loop->connections);
	stream_set_stop(&loop->streams);
	loop->drained = drain->drained;
	loop->drain_until_ms = loop->now_ms + DRAIN_MS;
	free(drain);
}

void loop_drain(struct loop *loop, sem_t *drained)
{
	struct drain_mail *drain = malloc(sizeof *drain);

	if (drain == NULL) {
		sem_post(drained);
		return;
	}
	*drain = (struct drain_mail){.mail = {.deliver = begin_drain}, .drained = drained};
	loop_post(loop, &drain->mail);
}

/* A daemon must not be stopped while a connection is suspended. */
static void begin_stop(struct loop *loop, struct mail *mail)
{
	(void)mail;
	loop->stopping = true;
	stream_set_cut(&loop->streams);
	for (struct connection *connection = loop->connections.lists[PHASE_BUSY].oldest; connection != NULL;
	     connection = connection->next) {
		if (connection->exchange != NULL)
			exchange_abandon(connection->exchange);
	}
}

static void run_daemon(struct loop *loop)
{
	loop->heard = false;
	MHD_run(loop->daemon);
	loop->unexplained |= loop->came_in && !loop->heard;
	loop->came_in = false;
}

static void run_turns(struct loop *loop)
{
	int spins = 0;

	do {
		wait_for_events(loop, &spins);
		deliver_mail(loop);
		loop->resumed = false;
		if (loop->runs_due > 0)
			loop->runs_due--;
		run_daemon(loop);
		check_time(loop);
		run_streams(loop);
		check_drained(loop);
	} while (!loop->stopping || loop->suspended > 0 || loop->in_engine > 0 ||
	         !engine_reader_is_idle(loop->reader));
	/* Nothing is suspended, but a resumption may not have been noticed yet. */
	MHD_run(loop->daemon);
}

static void *run(void *arg)
{
	struct loop *loop = arg;

	pthread_setname_np(pthread_self(), "keta-http");
	run_turns(loop);
	MHD_stop_daemon(loop->daemon);
	loop->daemon = NULL;
	deliver_mail(loop); /* sockets handed over meanwhile are closed */
	return NULL;
}

void loop_stop(struct loop *loop)
{
	struct mail stop = {.deliver = begin_stop};

	if (!loop->started)
		return;
	loop_post(loop, &stop);
	pthread_join(loop->thread, NULL);
	while (atomic_load_explicit(&loop->posting, memory_order_acquire) > 0)
		sched_yield();
	loop->started = false;
	engine_reader_free(loop->reader);
	close(loop->epoll_fd);
	close(loop->wake_fd);
	connections_release(&loop->connections);
	stream_set_release(&loop->streams);
}

/* ---- Starting ---- */

static void log_daemon(void *arg, const char *format, va_list args)
{
	char text[256];
	int len;

	(void)arg;
	if (!logger_is_on(LOGGER_DEBUG))
		return;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	len = vsnprintf(text, sizeof text, format, args);
#pragma GCC diagnostic pop
	while (len > 0 && (size_t)len < sizeof text && text[len - 1] == '\n')
		text[--len] = '\0';
	logger_debug("http", "libmicrohttpd", LOG_STR("text", text), LOG_END);
}

static struct MHD_Daemon *start_daemon(struct loop *loop)
{
	/* Suspension alone, without the pipe that wakes a daemon's own thread. */
	const unsigned suspend = (unsigned)MHD_ALLOW_SUSPEND_RESUME & ~(unsigned)MHD_USE_ITC;
	const unsigned flags =
		MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG | MHD_USE_TURBO | suspend;

	return MHD_start_daemon(flags, 0, NULL, NULL, exchange_handle, loop,  /* */
	                        MHD_OPTION_EXTERNAL_LOGGER, log_daemon, NULL, /* */
	                        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY_BYTES,
	                        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)STALLED_SECONDS,
	                        /* The acceptor counts. libmicrohttpd's own limit would hang the daemon. */
	                        MHD_OPTION_CONNECTION_LIMIT, 1U << 30,             /* */
	                        MHD_OPTION_URI_LOG_CALLBACK, exchange_begin, loop, /* */
	                        MHD_OPTION_NOTIFY_COMPLETED, exchange_end, loop,   /* */
	                        MHD_OPTION_NOTIFY_CONNECTION, on_connection, loop, /* */
	                        MHD_OPTION_END);
}

static bool watch(struct loop *loop, int fd, uint32_t events, uint64_t id)
{
	struct epoll_event event = {.events = events, .data.u64 = id};

	return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static bool open_epoll(struct loop *loop)
{
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(loop->daemon, MHD_DAEMON_INFO_EPOLL_FD);

	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	connections_init(&loop->connections, loop->epoll_fd);
	stream_set_init(&loop->streams, loop->epoll_fd, loop->listener, loop->edge->message_limit);
	return loop->epoll_fd >= 0 && loop->wake_fd >= 0 && info != NULL &&
	       watch(loop, info->epoll_fd, EPOLLIN, EVENT_DAEMON) &&
	       watch(loop, loop->wake_fd, EPOLLIN | EPOLLET, EVENT_WAKE); /* never read */
}

enum status_code loop_start(struct loop *loop, struct edge *edge, struct listener *listener)
{
	enum status_code status;

	*loop = (struct loop){.edge = edge, .listener = listener, .epoll_fd = -1, .wake_fd = -1};
	loop->now_ms = clock_ms();
	status = engine_reader_new(edge->engine, &loop->reader);
	if (status != STATUS_OK)
		return status;
	loop->daemon = start_daemon(loop);
	if (loop->daemon == NULL)
		goto no_daemon;
	if (!open_epoll(loop) || engine_reader_listen(loop->reader, wake, loop) != STATUS_OK ||
	    pthread_create(&loop->thread, NULL, run, loop) != 0)
		goto no_thread;
	loop->started = true;
	return STATUS_OK;

no_thread:
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	MHD_stop_daemon(loop->daemon);
no_daemon:
	engine_reader_free(loop->reader);
	return STATUS_INTERNAL;
}
