/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rate is that of the last seconds, not of the whole: what is left goes at
 * the pace of now. A window ends every WINDOW_MS, and the rate shown is that of
 * the last whole window, or of the work so far in the first.
 */
#include "base/progress.h"

#include <pthread.h>
#include <stdbool.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/metrics.h"

enum { WINDOW_MS = 5000, MS_PER_SECOND = 1000 };

static struct {
	pthread_mutex_t lock; /* of all that follows */
	const char *what;     /* NULL between pieces of work */
	const char *unit;
	int64_t done, total;
	int64_t begun_ms;
	int64_t window_ms; /* when the window began, and what was done then */
	int64_t window_done;
	int64_t rate; /* per second in the last window; negative: none has ended */
} work = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* What is derived, at a moment. */
struct outlook {
	int64_t percent; /* negative: not known; so is the last */
	int64_t rate;
	int64_t left_sec;
};

static int64_t rate_of(int64_t done, int64_t ms)
{
	return ms > 0 && done > 0 ? (int64_t)((double)done * MS_PER_SECOND / (double)ms) : 0;
}

/* The lock is held. */
static struct outlook look_ahead(int64_t now_ms)
{
	struct outlook outlook = {.percent = -1, .rate = work.rate, .left_sec = -1};

	if (outlook.rate < 0)
		outlook.rate = rate_of(work.done, now_ms - work.begun_ms);
	if (work.total > 0 && work.done >= work.total)
		outlook.percent = 100;
	else if (work.total > 0)
		outlook.percent = (int64_t)((double)work.done * 100 / (double)work.total);
	if (work.total > 0 && outlook.rate > 0)
		outlook.left_sec = work.done < work.total
		                           ? (work.total - work.done + outlook.rate - 1) / outlook.rate
		                           : 0;
	return outlook;
}

/* The lock is held. */
static void set_gauges(void)
{
	metric_set(METRIC_BOOTSTRAP_DONE, work.done);
	metric_set(METRIC_BOOTSTRAP_TOTAL, work.total);
}

void progress_begin(const char *what, const char *unit)
{
	pthread_mutex_lock(&work.lock);
	work.what = what;
	work.unit = unit;
	work.done = 0;
	work.total = 0;
	work.begun_ms = clock_ms();
	work.window_ms = work.begun_ms;
	work.window_done = 0;
	work.rate = -1;
	set_gauges();
	pthread_mutex_unlock(&work.lock);
	logger_info("progress", "begun", LOG_STR("what", what), LOG_END);
}

/* The window is over. The lock is held. */
static struct outlook end_window(int64_t now_ms)
{
	work.rate = rate_of(work.done - work.window_done, now_ms - work.window_ms);
	work.window_ms = now_ms;
	work.window_done = work.done;
	return look_ahead(now_ms);
}

void progress_set(int64_t done, int64_t total)
{
	const int64_t now_ms = clock_ms();
	struct outlook outlook = {.percent = 0};
	const char *what;
	const char *unit;
	bool due;

	pthread_mutex_lock(&work.lock);
	what = work.what;
	unit = work.unit;
	due = what != NULL && now_ms - work.window_ms >= WINDOW_MS;
	if (what != NULL) {
		work.done = done;
		work.total = total;
		set_gauges();
	}
	if (due)
		outlook = end_window(now_ms);
	pthread_mutex_unlock(&work.lock);
	if (due)
		logger_info("progress", "under way", LOG_STR("what", what), LOG_STR("unit", unit),
		            LOG_I64("done", done), LOG_I64("total", total),
		            LOG_I64("percent", outlook.percent), LOG_I64("per_second", outlook.rate),
		            LOG_I64("seconds_left", outlook.left_sec), LOG_END);
}

void progress_end(void)
{
	const char *what;
	int64_t done;
	int64_t begun_ms;

	pthread_mutex_lock(&work.lock);
	what = work.what;
	done = work.done;
	begun_ms = work.begun_ms;
	work.what = NULL;
	work.done = 0;
	work.total = 0;
	set_gauges();
	pthread_mutex_unlock(&work.lock);
	if (what != NULL)
		logger_info("progress", "ended", LOG_STR("what", what), LOG_I64("done", done),
		            LOG_I64("took_ms", clock_ms() - begun_ms), LOG_END);
}

void progress_describe(struct buf *out)
{
	struct outlook outlook;

	pthread_mutex_lock(&work.lock);
	outlook = look_ahead(clock_ms());
	if (work.what == NULL)
		buf_append_text(out, "starting");
	else
		buf_append_text(out, work.what);
	if (work.what != NULL && outlook.percent >= 0)
		buf_printf(out, ": %lld %% of %lld %s", (long long)outlook.percent, (long long)work.total,
		           work.unit);
	else if (work.what != NULL && work.done > 0)
		buf_printf(out, ": %lld %s", (long long)work.done, work.unit);
	if (work.what != NULL && work.done > 0)
		buf_printf(out, ", %lld %s/s", (long long)outlook.rate, work.unit);
	if (work.what != NULL && outlook.left_sec >= 0)
		buf_printf(out, ", %lld s left", (long long)outlook.left_sec);
	pthread_mutex_unlock(&work.lock);
}
