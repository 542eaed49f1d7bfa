/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables as compacted topics, written in Kafka's transactions.
 *
 * The writer is a transactional producer. Taking it over is init_transactions:
 * the broker raises the epoch of the transactional id, which fences whoever had it,
 * and finishes what that one had begun. Any failure but one that was repeated with
 * success ends the producer: what became of the transaction is then only known when
 * the id has been taken again.
 *
 * A table is read by a consumer that sees committed rows only, from its first offset
 * to the end as of the start. Offsets have holes, from compaction and from the marks
 * that end transactions, so the end is recognised by the consumer's position and not
 * by a row.
 */
#include "log/kafka.h"

#include <stdatomic.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/logger.h"
#include "log/kafka_internal.h"

enum {
	CALL_SLICE_MS = 1000, /* of a call that waits */
	ASK_LIMIT_MS = 5000,  /* for where a table ends */
	READ_BATCH = 1000,
	READ_SLICE_MS = 100,
	PUT_SLICE_MS = 10,
	/* The largest checkpoint must fit. A reader waits that long for a writer that died within a
	 * transaction, but only if nobody takes the writing over before. */
	TRANSACTION_TIMEOUT_MS = 300000,
	WRITE_TIMEOUT_MS = 60000, /* for one step of it */
	RETRY_MS = 100,
};

struct kafka_tables {
	struct tables base;
	struct kafka *kafka;

	/* The writer's thread only. */
	struct kafka_client write_client;
	rd_kafka_t *writer; /* NULL: somebody else is, or may be */
	rd_kafka_topic_t *topics[TABLE_COUNT];
	atomic_bool interrupted;
	bool fenced;

	struct kafka_client read_client; /* the reader's */
};

static void drop_writer(struct kafka_tables *tables)
{
	if (tables->writer == NULL)
		return;
	for (int i = 0; i < TABLE_COUNT; i++) {
		if (tables->topics[i] != NULL)
			rd_kafka_topic_destroy(tables->topics[i]);
		tables->topics[i] = NULL;
	}
	rd_kafka_purge(tables->writer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
	rd_kafka_destroy(tables->writer);
	tables->writer = NULL;
}

static bool says_fenced(rd_kafka_resp_err_t err)
{
	return err == RD_KAFKA_RESP_ERR__FENCED || err == RD_KAFKA_RESP_ERR_PRODUCER_FENCED ||
	       err == RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH;
}

static bool says_forbidden(rd_kafka_resp_err_t err)
{
	return err == RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED ||
	       err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
	       err == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
}

/* Ends being the writer after an error, and says what kind it was. */
static enum status_code give_up(struct kafka_tables *tables, const char *what, rd_kafka_resp_err_t err,
                                const char *why)
{
	rd_kafka_resp_err_t fatal = rd_kafka_fatal_error(tables->writer, NULL, 0);

	tables->fenced = says_fenced(err) || says_fenced(fatal);
	drop_writer(tables);
	if (tables->fenced) {
		logger_info("kafka", "another node writes the tables now", LOG_STR("at", what),
		            LOG_STR("why", why));
		return STATUS_FENCED;
	}
	logger_warn("kafka", "tables not written", LOG_STR("at", what), LOG_STR("why", why));
	kafka_note_refusal(tables->kafka, says_forbidden(err) ? err : fatal);
	if (says_forbidden(err) || says_forbidden(fatal))
		return STATUS_BAD_KAFKA;
	return err == RD_KAFKA_RESP_ERR__TIMED_OUT ? STATUS_TIMEOUT : STATUS_NO_KAFKA;
}

static bool is_interrupted(const struct kafka_tables *tables)
{
	const volatile bool *canceled = tables->kafka->canceled;

	return atomic_load(&tables->interrupted) || (canceled != NULL && *canceled);
}

/* The time that one call of librdkafka's may take, so that an interruption is heard. */
static int slice_ms(const struct kafka_tables *tables, int64_t deadline_ms)
{
	int64_t left = deadline_ms - clock_ms();

	if (left > CALL_SLICE_MS || is_interrupted(tables))
		left = CALL_SLICE_MS;
	return left < 1 ? 1 : (int)left;
}

static bool is_over(const struct kafka_tables *tables, int64_t deadline_ms)
{
	return clock_ms() >= deadline_ms || is_interrupted(tables);
}

/* Undoes what was begun, as far as that can be done, so that no reader has to wait for it. */
static void undo(struct kafka_tables *tables)
{
	int64_t deadline = clock_ms() + tables->kafka->options.timeout_ms;
	rd_kafka_error_t *error;
	bool again;

	do {
		error = rd_kafka_abort_transaction(tables->writer, slice_ms(tables, deadline));
		again = error != NULL && rd_kafka_error_is_retriable(error) && !is_over(tables, deadline);
		if (error != NULL)
			rd_kafka_error_destroy(error);
	} while (again);
}

/* The same for an error object, which is freed. */
static enum status_code fail(struct kafka_tables *tables, const char *what, rd_kafka_error_t *error)
{
	rd_kafka_resp_err_t err = rd_kafka_error_code(error);
	char why[512];

	snprintf(why, sizeof why, "%s", rd_kafka_error_string(error));
	if (rd_kafka_error_txn_requires_abort(error)) {
		undo(tables);
	} else if (rd_kafka_error_is_retriable(error)) {
		err = RD_KAFKA_RESP_ERR__TIMED_OUT; /* it was repeated for as long as it may take */
	}
	rd_kafka_error_destroy(error);
	return give_up(tables, what, err, why);
}

static bool set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char errstr[512];

	if (rd_kafka_conf_set(conf, name, value, errstr, sizeof errstr) == RD_KAFKA_CONF_OK)
		return true;
	logger_error("kafka", "no client", LOG_STR("why", errstr));
	return false;
}

/* The transactional id is the cluster's, so that clusters which use a prefix one after the other
 * do not fence each other; the prefix is in it because rights are given by that. */
static bool set_transaction(rd_kafka_conf_t *conf, const char *prefix, uint64_t cluster_id)
{
	char timeout[24];
	struct buf id;
	bool is_set;

	snprintf(timeout, sizeof timeout, "%d", TRANSACTION_TIMEOUT_MS);
	buf_init(&id);
	buf_printf(&id, "%s%016" PRIx64 "-checkpoint", prefix, cluster_id);
	buf_append_byte(&id, '\0');
	is_set = !id.failed && set(conf, "transactional.id", (const char *)id.data) &&
	         set(conf, "transaction.timeout.ms", timeout);
	buf_release(&id);
	return is_set;
}

static bool make_writer(struct kafka_tables *tables, uint64_t cluster_id)
{
	char errstr[512];
	rd_kafka_conf_t *conf = kafka_conf_new(tables->kafka, KAFKA_WRITER, errstr);

	if (conf == NULL) {
		logger_error("kafka", "no client", LOG_STR("why", errstr));
		return false;
	}
	if (!set_transaction(conf, tables->kafka->options.prefix, cluster_id)) {
		rd_kafka_conf_destroy(conf);
		return false;
	}
	tables->writer = kafka_handle_new(&tables->write_client, KAFKA_WRITER, conf);
	if (tables->writer == NULL)
		return false;
	for (int i = 0; i < TABLE_COUNT; i++) {
		tables->topics[i] =
			rd_kafka_topic_new(tables->writer, tables->kafka->topics[TOPIC_KV + i], NULL);
		if (tables->topics[i] == NULL) {
			drop_writer(tables);
			return false;
		}
	}
	return true;
}

typedef rd_kafka_error_t *transaction_step_fn(rd_kafka_t *rk, int timeout_ms);

/* Takes a step until it is done, has failed for good or the time is over: it goes on
 * where it was when it is called again. */
static rd_kafka_error_t *insist(struct kafka_tables *tables, transaction_step_fn *step, int64_t deadline)
{
	for (;;) {
		rd_kafka_error_t *error = step(tables->writer, slice_ms(tables, deadline));

		if (error == NULL || !rd_kafka_error_is_retriable(error) || is_over(tables, deadline))
			return error;
		rd_kafka_error_destroy(error);
		rd_kafka_poll(tables->writer, RETRY_MS);
	}
}

static enum status_code take(struct tables *base, uint64_t cluster_id)
{
	struct kafka_tables *tables = (struct kafka_tables *)base;
	int64_t deadline = clock_ms() + tables->kafka->options.timeout_ms;
	rd_kafka_error_t *error;

	drop_writer(tables);
	tables->fenced = false;
	if (!make_writer(tables, cluster_id))
		return STATUS_NO_MEMORY;
	error = insist(tables, rd_kafka_init_transactions, deadline);
	return error == NULL ? STATUS_OK : fail(tables, "take", error);
}

static enum status_code not_writer(const struct kafka_tables *tables)
{
	return tables->fenced ? STATUS_FENCED : STATUS_NO_KAFKA;
}

static enum status_code begin(struct tables *base)
{
	struct kafka_tables *tables = (struct kafka_tables *)base;
	rd_kafka_error_t *error;

	if (tables->writer == NULL)
		return not_writer(tables);
	error = rd_kafka_begin_transaction(tables->writer);
	return error == NULL ? STATUS_OK : fail(tables, "begin", error);
}

static rd_kafka_resp_err_t produce(rd_kafka_topic_t *topic, const void *key, size_t key_len,
                                   const void *value, size_t value_len)
{
	/* The bytes are copied; the parameter lacks its const. */
	union {
		const void *given;
		void *taken;
	} payload = {value};

	if (rd_kafka_produce(topic, 0, RD_KAFKA_MSG_F_COPY, payload.taken, value_len, key, key_len, NULL) ==
	    0)
		return RD_KAFKA_RESP_ERR_NO_ERROR;
	return rd_kafka_last_error();
}

static enum status_code put(struct tables *base, enum table table, const void *key, size_t key_len,
                            const void *value, size_t value_len)
{
	struct kafka_tables *tables = (struct kafka_tables *)base;
	int64_t deadline = clock_ms() + WRITE_TIMEOUT_MS;
	rd_kafka_resp_err_t err;
	char why[512];

	if (tables->writer == NULL)
		return not_writer(tables);
	for (;;) {
		err = produce(tables->topics[table], key, key_len, value, value_len);
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			return STATUS_OK;
		if (err != RD_KAFKA_RESP_ERR__QUEUE_FULL || is_over(tables, deadline))
			break;
		rd_kafka_poll(tables->writer, PUT_SLICE_MS);
	}
	/* A state that forbids it follows from an error before, which undoing names. */
	snprintf(why, sizeof why, "%s", rd_kafka_err2str(err));
	if (rd_kafka_fatal_error(tables->writer, NULL, 0) == RD_KAFKA_RESP_ERR_NO_ERROR)
		undo(tables);
	return give_up(tables, "put", err, why);
}

static enum status_code commit(struct tables *base)
{
	struct kafka_tables *tables = (struct kafka_tables *)base;
	int64_t deadline = clock_ms() + WRITE_TIMEOUT_MS;
	rd_kafka_error_t *error;

	if (tables->writer == NULL)
		return not_writer(tables);
	error = insist(tables, rd_kafka_commit_transaction, deadline);
	return error == NULL ? STATUS_OK : fail(tables, "commit", error);
}

static void abort_transaction(struct tables *base)
{
	struct kafka_tables *tables = (struct kafka_tables *)base;

	if (tables->writer == NULL)
		return;
	/* librdkafka 2.0.2 fails for good when it is to end a transaction whose first row is still on its
	 * way. */
	rd_kafka_flush(tables->writer, slice_ms(tables, clock_ms() + CALL_SLICE_MS));
	undo(tables);
	if (rd_kafka_fatal_error(tables->writer, NULL, 0) != RD_KAFKA_RESP_ERR_NO_ERROR)
		drop_writer(tables);
}

/* A reading under way. */
struct reading {
	struct kafka_tables *tables;
	table_row_fn *row;
	void *arg;
	int64_t low, high;
	int64_t position; /* everything before it has been told of or is no row */
};

static enum status_code take_message(struct reading *reading, const rd_kafka_message_t *message)
{
	enum status_code code = STATUS_OK;

	if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
		/* With the offset that comes next. */
		if (message->offset > reading->position)
			reading->position = message->offset;
		return STATUS_OK;
	}
	if (message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET)
		return STATUS_BUSY; /* the start moved meanwhile */
	if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
		logger_warn("kafka", "table cannot be read now",
		            LOG_STR("why", rd_kafka_message_errstr(message)));
		return STATUS_OK;
	}
	/* What came after the call may be told of too; but it need not be. */
	code = reading->row(reading->arg, &(struct table_row){
						  .key = message->key,
						  .key_len = message->key_len,
						  .value = message->payload,
						  .value_len = message->len,
						  .at = message->offset + 1 - reading->low,
						  .end = reading->high - reading->low,
					  });
	reading->position = message->offset + 1;
	return code;
}

/* Reads on until the end; gives up when nothing has come for the time-out of requests. */
static enum status_code read_rows(struct reading *reading, rd_kafka_queue_t *queue)
{
	int64_t timeout_ms = reading->tables->kafka->options.timeout_ms;
	int64_t deadline = clock_ms() + timeout_ms;
	enum status_code code = STATUS_OK;
	rd_kafka_message_t *messages[READ_BATCH];

	while (code == STATUS_OK && reading->position < reading->high) {
		int64_t before = reading->position;
		ssize_t count = 0;

		/* A batch is only waited for until it is full or the time is over, so the first comes
		 * alone. */
		messages[0] = rd_kafka_consume_queue(queue, READ_SLICE_MS);
		if (messages[0] != NULL)
			count = 1 + rd_kafka_consume_batch_queue(queue, 0, messages + 1, READ_BATCH - 1);
		for (ssize_t i = 0; i < count; i++) {
			if (code == STATUS_OK)
				code = take_message(reading, messages[i]);
			rd_kafka_message_destroy(messages[i]);
		}
		if (reading->position > before)
			deadline = clock_ms() + timeout_ms;
		else if (code == STATUS_OK && clock_ms() >= deadline)
			code = STATUS_BUSY;
		if (code == STATUS_OK && is_interrupted(reading->tables))
			code = STATUS_NO_KAFKA;
	}
	return code;
}

static enum status_code read_table(struct tables *base, enum table table, table_row_fn *row, void *arg)
{
	struct kafka_tables *tables = (struct kafka_tables *)base;
	struct reading reading = {.tables = tables, .row = row, .arg = arg};
	enum kafka_topic topic_number = TOPIC_KV + table;
	char errstr[512];
	rd_kafka_conf_t *conf;
	rd_kafka_t *rk;
	rd_kafka_topic_t *topic;
	rd_kafka_queue_t *queue;
	enum status_code code =
		kafka_watermarks(tables->kafka, topic_number, &reading.low, &reading.high, ASK_LIMIT_MS);

	if (code != STATUS_OK || reading.high <= reading.low)
		return code;
	reading.position = reading.low;
	conf = kafka_conf_new(tables->kafka, KAFKA_READER, errstr);
	if (conf == NULL) {
		logger_error("kafka", "no client", LOG_STR("why", errstr));
		return STATUS_NO_MEMORY;
	}
	rk = kafka_handle_new(&tables->read_client, KAFKA_READER, conf);
	if (rk == NULL)
		return STATUS_NO_MEMORY;
	queue = rd_kafka_queue_new(rk);
	topic = rd_kafka_topic_new(rk, tables->kafka->topics[topic_number], NULL);
	code = STATUS_NO_KAFKA;
	if (topic != NULL && rd_kafka_consume_start_queue(topic, 0, reading.low, queue) == 0) {
		code = read_rows(&reading, queue);
		rd_kafka_consume_stop(topic, 0);
	}
	if (topic != NULL)
		rd_kafka_topic_destroy(topic);
	rd_kafka_queue_destroy(queue);
	rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	return code;
}

static void interrupt(struct tables *base, bool on)
{
	atomic_store(&((struct kafka_tables *)base)->interrupted, on);
}

static void close_tables(struct tables *base)
{
	struct kafka_tables *tables = (struct kafka_tables *)base;

	drop_writer(tables);
	free(tables);
}

static const struct tables_ops tables_kafka = {
	.take = take,
	.begin = begin,
	.put = put,
	.commit = commit,
	.abort = abort_transaction,
	.read = read_table,
	.interrupt = interrupt,
	.close = close_tables,
};

enum status_code kafka_tables_open(struct kafka *kafka, struct tables **out)
{
	struct kafka_tables *tables = calloc(1, sizeof *tables);

	if (tables == NULL)
		return STATUS_NO_MEMORY;
	tables->base.ops = &tables_kafka;
	tables->kafka = kafka;
	tables->write_client = (struct kafka_client){.kafka = kafka, .owner = tables};
	tables->read_client = (struct kafka_client){.kafka = kafka, .owner = tables};
	*out = &tables->base;
	return STATUS_OK;
}
