/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/model_kafka.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct model_letter {
	uint8_t *data;
	size_t len;
	uint64_t tag;
	int64_t appended_ms;
	int64_t after;           /* its process had read up to here */
	enum status_code status; /* of a confirmation */
};

/* What became of a record of a process. */
struct fate {
	int64_t offset;
	bool confirmed;
};

struct model_link {
	struct log log;
	struct tables tables;
	struct election election;
	struct model_kafka *kafka;
	struct model_queue outbox, confirmations;
	struct fate *fates; /* by tag */
	size_t fate_count;
	int64_t next; /* offset of the next poll */
	size_t batch;
	bool holds, shy, cut, frozen;
	bool overtaken; /* a new record stands before older ones: the log is not the one that was read */
	int64_t applied;

	bool writing;   /* between tables_begin and its end */
	uint64_t epoch; /* 0: it is not the writer */
	struct model_ops ops;
	struct buf marker; /* the first that was read, where markers are frozen */

	void (*run)(void *arg);
	void *run_arg;
};

static void *grow(void *items, size_t count, size_t *size, size_t item_size)
{
	if (count < *size)
		return items;
	*size = *size == 0 ? 64 : *size * 2;
	items = realloc(items, *size * item_size);
	assert(items != NULL);
	return items;
}

static uint8_t *copy(const void *data, size_t len)
{
	uint8_t *bytes = malloc(len + 1);

	assert(bytes != NULL);
	memcpy(bytes, data, len);
	return bytes;
}

/* ---- Queues ---- */

static void queue_push(struct model_queue *queue, struct model_letter letter)
{
	if (queue->first > 0 && queue->first + queue->count == queue->size) {
		memmove(queue->items, queue->items + queue->first, queue->count * sizeof *queue->items);
		queue->first = 0;
	}
	queue->items = grow(queue->items, queue->first + queue->count, &queue->size, sizeof *queue->items);
	queue->items[queue->first + queue->count++] = letter;
}

static struct model_letter queue_take(struct model_queue *queue, size_t at)
{
	struct model_letter *items = queue->items + queue->first;
	struct model_letter letter = items[at];

	assert(at < queue->count);
	queue->count--;
	if (at == 0)
		queue->first++;
	else
		memmove(&items[at], &items[at + 1], (queue->count - at) * sizeof *items);
	return letter;
}

static void queue_release(struct model_queue *queue)
{
	for (size_t i = 0; i < queue->count; i++)
		free(queue->items[queue->first + i].data);
	free(queue->items);
}

/* ---- Operations on tables ---- */

static void ops_add(struct model_ops *ops, enum table table, const void *key, size_t key_len,
                    const void *value, size_t value_len)
{
	struct model_op *op;

	ops->items = grow(ops->items, ops->count, &ops->size, sizeof *ops->items);
	op = &ops->items[ops->count++];
	*op = (struct model_op){.table = table, .gone = value == NULL};
	buf_init(&op->key);
	buf_init(&op->value);
	buf_append(&op->key, key, key_len);
	if (value != NULL)
		buf_append(&op->value, value, value_len);
}

static void ops_clear(struct model_ops *ops)
{
	for (size_t i = 0; i < ops->count; i++) {
		buf_release(&ops->items[i].key);
		buf_release(&ops->items[i].value);
	}
	ops->count = 0;
}

static void ops_release(struct model_ops *ops)
{
	ops_clear(ops);
	free(ops->items);
	*ops = (struct model_ops){0};
}

static bool is_same_row(const struct model_op *a, const struct model_op *b)
{
	return a->table == b->table && a->key.len == b->key.len &&
	       memcmp(a->key.data, b->key.data, a->key.len) == 0;
}

static void supersede(struct model_kafka *kafka, const struct model_op *op)
{
	for (size_t i = kafka->ops.count; i > 0; i--) {
		struct model_op *old = &kafka->ops.items[i - 1];

		if (!is_same_row(old, op))
			continue;
		if (old->superseded_by == 0)
			old->superseded_by = op->commit;
		return;
	}
}

/* Takes over what is in 'ops'. */
static void commit(struct model_kafka *kafka, struct model_ops *ops)
{
	model_kafka_show_all(kafka);
	kafka->commits++;
	kafka->counts.commits++;
	for (size_t i = 0; i < ops->count; i++) {
		struct model_op *op = &ops->items[i];

		op->commit = kafka->commits;
		supersede(kafka, op);
		kafka->ops.items = grow(kafka->ops.items, kafka->ops.count, &kafka->ops.size, sizeof *op);
		kafka->ops.items[kafka->ops.count++] = *op;
	}
	ops->count = 0;
	if (kafka->on_commit != NULL)
		kafka->on_commit(kafka->listener);
}

void model_kafka_settle_late(struct model_kafka *kafka)
{
	if (kafka->late_epoch == 0)
		return;
	if (prng_chance(kafka->prng, 50) && (kafka->late_epoch == kafka->epoch || kafka->fences_nobody))
		commit(kafka, &kafka->late);
	ops_clear(&kafka->late);
	kafka->late_epoch = 0;
}

void model_kafka_show(struct model_kafka *kafka, enum table table)
{
	if (kafka->seen[table] < kafka->commits)
		kafka->seen[table]++;
}

void model_kafka_show_all(struct model_kafka *kafka)
{
	for (int i = 0; i < TABLE_COUNT; i++)
		kafka->seen[i] = kafka->commits;
}

void model_kafka_rows(const struct model_kafka *kafka, enum table table, table_row_fn *row, void *arg)
{
	for (size_t i = 0; i < kafka->ops.count; i++) {
		const struct model_op *op = &kafka->ops.items[i];

		if (op->table == table && !op->gone && op->superseded_by == 0)
			row(arg, &(struct table_row){op->key.data, op->key.len, op->value.data,
			                             op->value.len, 0, 0});
	}
}

/* ---- The tables of a link ---- */

static struct model_link *of_tables(struct tables *tables)
{
	return (struct model_link *)((char *)tables - offsetof(struct model_link, tables));
}

static bool is_away(const struct model_link *link)
{
	return link->kafka->out || link->cut;
}

static void wait_for_kafka(const struct model_link *link)
{
	if (link->kafka->on_wait != NULL)
		link->kafka->on_wait(link->kafka->listener, link);
}

static enum status_code take(struct tables *tables, uint64_t cluster_id)
{
	struct model_link *link = of_tables(tables);

	wait_for_kafka(link);
	(void)cluster_id;
	link->epoch = 0;
	if (is_away(link))
		return STATUS_NO_KAFKA;
	model_kafka_settle_late(link->kafka);
	link->epoch = ++link->kafka->epoch;
	return prng_chance(link->kafka->prng, 3) ? STATUS_NO_KAFKA : STATUS_OK;
}

static enum status_code begin(struct tables *tables)
{
	struct model_link *link = of_tables(tables);

	assert(!link->writing);
	if (link->epoch == 0)
		return STATUS_FENCED;
	ops_clear(&link->ops);
	link->writing = true;
	return STATUS_OK;
}

static enum status_code put(struct tables *tables, enum table table, const void *key, size_t key_len,
                            const void *value, size_t value_len)
{
	struct model_link *link = of_tables(tables);

	assert(link->writing);
	if (value == NULL && table == TABLE_LEASES && link->kafka->keeps_gone_leases)
		return STATUS_OK;
	ops_add(&link->ops, table, key, key_len, value, value_len);
	return STATUS_OK;
}

static enum status_code finish_commit(struct tables *tables)
{
	struct model_link *link = of_tables(tables);
	struct model_kafka *kafka = link->kafka;
	bool fenced;

	assert(link->writing);
	wait_for_kafka(link);
	link->writing = false;
	fenced = link->epoch != kafka->epoch && !kafka->fences_nobody;
	if (!is_away(link) && fenced) {
		kafka->counts.fenced++;
		link->epoch = 0;
		return STATUS_FENCED;
	}
	if (!is_away(link) && !prng_chance(kafka->prng, 6)) {
		commit(kafka, &link->ops);
		return STATUS_OK;
	}
	/* Nobody knows; it is settled when somebody takes over, or before. */
	kafka->counts.unknown_commits++;
	if (!fenced && kafka->late_epoch == 0 && !link->cut) {
		struct model_ops empty = kafka->late;

		kafka->late = link->ops;
		kafka->late_epoch = link->epoch;
		link->ops = empty;
	}
	link->epoch = 0;
	return STATUS_TIMEOUT;
}

static void abort_writing(struct tables *tables)
{
	struct model_link *link = of_tables(tables);

	link->writing = false;
	ops_clear(&link->ops);
}

/* Rows that the cleaner took are those that were superseded, and removals, up to some commit. */
static enum status_code tell_rows(const struct model_kafka *kafka, enum table table, int64_t seen,
                                  int64_t clean, table_row_fn *row, void *arg)
{
	enum status_code status = STATUS_OK;

	for (size_t i = 0; status == STATUS_OK && i < kafka->ops.count; i++) {
		const struct model_op *op = &kafka->ops.items[i];

		if (op->table != table || op->commit > seen)
			continue;
		if ((op->superseded_by != 0 && op->superseded_by <= clean) ||
		    (op->gone && op->commit <= clean))
			continue;
		status = row(arg, &(struct table_row){
					  .key = op->key.data,
					  .key_len = op->key.len,
					  .value = op->gone            ? NULL
		                                   : op->value.len > 0 ? op->value.data
		                                                       : (const uint8_t *)"",
					  .value_len = op->value.len,
				  });
	}
	return status;
}

static enum status_code keep_marker(void *arg, const struct table_row *row)
{
	struct buf *marker = arg;

	buf_reset(marker);
	buf_append(marker, row->key, row->key_len);
	buf_append(marker, row->value, row->value_len);
	return STATUS_OK;
}

static enum status_code read_frozen(struct model_link *link, table_row_fn *row, void *arg)
{
	const struct buf *marker = &link->marker;

	if (marker->len == 0)
		tell_rows(link->kafka, TABLE_MARKERS, link->kafka->seen[TABLE_MARKERS], 0, keep_marker,
		          &link->marker);
	if (marker->len == 0)
		return STATUS_OK;
	return row(arg, &(struct table_row){marker->data, strlen("marker"), marker->data + strlen("marker"),
	                                    marker->len - strlen("marker"), 0, 0});
}

static enum status_code read_table(struct tables *tables, enum table table, table_row_fn *row, void *arg)
{
	struct model_link *link = of_tables(tables);
	struct model_kafka *kafka = link->kafka;
	int64_t wanted = kafka->commits, seen, clean;

	wait_for_kafka(link);
	seen = kafka->seen[table];
	if (is_away(link))
		return STATUS_NO_KAFKA;
	if (link->frozen && kafka->freezes_markers && table == TABLE_MARKERS)
		return read_frozen(link, row, arg);
	if (seen < wanted && !kafka->shows_early)
		return STATUS_BUSY;
	if (prng_chance(kafka->prng, 5)) {
		tell_rows(kafka, table, seen / 2, 0, row, arg);
		return STATUS_BUSY;
	}
	clean = seen > 0 ? (int64_t)prng_below(kafka->prng, (unsigned)seen + 1) : 0;
	return tell_rows(kafka, table, seen, clean, row, arg);
}

static void close_nothing(struct tables *tables)
{
	(void)tables;
}

/* Nothing here waits. */
static void interrupt(struct tables *tables, bool on)
{
	(void)tables;
	(void)on;
}

static const struct tables_ops TABLES_MODEL = {
	.take = take,
	.begin = begin,
	.put = put,
	.commit = finish_commit,
	.abort = abort_writing,
	.read = read_table,
	.interrupt = interrupt,
	.close = close_nothing,
};

/* ---- The election of a link ---- */

static struct model_link *of_election(struct election *election)
{
	return (struct model_link *)((char *)election - offsetof(struct model_link, election));
}

static bool holds(struct election *election)
{
	struct model_link *link = of_election(election);

	if (link->run != NULL)
		link->run(link->run_arg);
	return link->holds && !link->shy;
}

static void stand(struct election *election, bool stands)
{
	of_election(election)->shy = !stands;
}

static void resign(struct election *election)
{
	of_election(election)->holds = false;
}

static const struct election_ops ELECTION_MODEL = {holds, stand, resign, resign};

/* ---- The log of a link ---- */

static struct model_link *of_log(struct log *log)
{
	return (struct model_link *)((char *)log - offsetof(struct model_link, log));
}

static enum status_code append(struct log *log, const uint8_t *data, size_t len, uint64_t tag)
{
	struct model_link *link = of_log(log);
	size_t old = link->fate_count;

	queue_push(&link->outbox, (struct model_letter){.data = copy(data, len),
	                                                .len = len,
	                                                .tag = tag,
	                                                .appended_ms = link->kafka->now_ms(),
	                                                .after = link->next - 1});
	while (tag >= link->fate_count) {
		link->fate_count = link->fate_count == 0 ? 256 : link->fate_count * 2;
		link->fates = realloc(link->fates, link->fate_count * sizeof *link->fates);
		assert(link->fates != NULL);
		memset(link->fates + old, 0, (link->fate_count - old) * sizeof *link->fates);
		old = link->fate_count;
	}
	return STATUS_OK;
}

static enum status_code poll_records(struct log *log, struct log_record *records, size_t max, size_t *count,
                                     int timeout_ms)
{
	struct model_link *link = of_log(log);
	struct model_kafka *kafka = link->kafka;

	(void)timeout_ms;
	*count = 0;
	if (is_away(link))
		return STATUS_OK;
	if (link->next < kafka->first || link->overtaken)
		return STATUS_BAD_LOG;
	if (max > link->batch)
		max = link->batch;
	for (; *count < max && link->next <= (int64_t)kafka->count; link->next++, ++*count) {
		const struct model_record *record = &kafka->records[link->next - 1];

		records[*count] = (struct log_record){link->next, record->data, record->len};
	}
	return STATUS_OK;
}

static enum status_code bounds(struct log *log, int64_t *first, int64_t *end)
{
	struct model_link *link = of_log(log);

	if (is_away(link))
		return STATUS_NO_KAFKA;
	*first = link->kafka->first;
	*end = (int64_t)link->kafka->count + 1;
	return STATUS_OK;
}

static enum status_code read_at(struct log *log, int64_t offset, struct buf *out)
{
	struct model_link *link = of_log(log);
	const struct model_kafka *kafka = link->kafka;

	if (is_away(link))
		return STATUS_NO_KAFKA;
	if (offset < kafka->first || offset > (int64_t)kafka->count)
		return STATUS_BAD_LOG;
	buf_reset(out);
	buf_append(out, kafka->records[offset - 1].data, kafka->records[offset - 1].len);
	return out->failed ? STATUS_NO_MEMORY : STATUS_OK;
}

static enum status_code trim(struct log *log, int64_t before)
{
	struct model_link *link = of_log(log);
	struct model_kafka *kafka = link->kafka;

	if (is_away(link))
		return STATUS_NO_KAFKA;
	if (kafka->trims_ahead)
		before = link->applied + 1;
	if (before > kafka->first && before <= (int64_t)kafka->count + 1) {
		kafka->first = before;
		kafka->counts.trims++;
		if (kafka->on_trim != NULL)
			kafka->on_trim(kafka->listener);
	}
	return STATUS_OK;
}

static void do_nothing(struct log *log)
{
	(void)log;
}

static const struct log_ops LOG_MODEL = {"model", true, append,     poll_records, bounds,
                                         read_at, trim, do_nothing, do_nothing};

/* ---- Links ---- */

struct model_link *model_link_new(struct model_kafka *kafka, int64_t applied)
{
	struct model_link *link = calloc(1, sizeof *link);

	assert(link != NULL);
	link->log.ops = &LOG_MODEL;
	link->tables.ops = &TABLES_MODEL;
	link->election.ops = &ELECTION_MODEL;
	link->kafka = kafka;
	link->next = applied + 1;
	link->batch = SIZE_MAX;
	buf_init(&link->marker);
	return link;
}

void model_link_free(struct model_link *link)
{
	if (link == NULL)
		return;
	while (link->outbox.count > 0)
		queue_push(&link->kafka->limbo, queue_take(&link->outbox, 0));
	queue_release(&link->outbox);
	queue_release(&link->confirmations);
	ops_release(&link->ops);
	buf_release(&link->marker);
	free(link->fates);
	free(link);
}

struct log *model_link_log(struct model_link *link)
{
	return &link->log;
}

struct tables *model_link_tables(struct model_link *link)
{
	return &link->tables;
}

struct election *model_link_election(struct model_link *link)
{
	return &link->election;
}

void model_link_give_hint(struct model_link *link, bool hint)
{
	link->holds = hint;
}

bool model_link_has_hint(const struct model_link *link)
{
	return link->holds;
}

void model_link_set_batch(struct model_link *link, size_t batch)
{
	link->batch = batch;
}

bool model_link_is_writing(const struct model_link *link)
{
	return link->writing;
}

void model_link_cut(struct model_link *link, bool cut)
{
	link->cut = cut;
}

void model_link_freeze(struct model_link *link)
{
	link->frozen = true;
}

void model_link_on_switch(struct model_link *link, void (*run)(void *arg), void *arg)
{
	link->run = run;
	link->run_arg = arg;
}

void model_link_note_applied(struct model_link *link, int64_t offset)
{
	link->applied = offset;
}

static int64_t add_record(struct model_kafka *kafka, const uint8_t *data, size_t len, int64_t appended_ms,
                          bool twin)
{
	kafka->records = grow(kafka->records, kafka->count, &kafka->size, sizeof *kafka->records);
	kafka->records[kafka->count++] = (struct model_record){copy(data, len), len, appended_ms, twin};
	if (kafka->on_record != NULL)
		kafka->on_record(kafka->listener, (int64_t)kafka->count);
	return (int64_t)kafka->count;
}

int64_t model_kafka_append(struct model_kafka *kafka, const void *data, size_t len)
{
	return add_record(kafka, data, len, kafka->now_ms(), false);
}

static int64_t arrive(struct model_kafka *kafka, const struct model_letter *letter)
{
	int64_t offset = add_record(kafka, letter->data, letter->len, letter->appended_ms, false);

	if (prng_chance(kafka->prng, 3)) {
		kafka->counts.twins++;
		add_record(kafka, letter->data, letter->len, letter->appended_ms, true);
	} else if (prng_below(kafka->prng, 200) == 0) {
		struct model_letter again = *letter;

		kafka->counts.twins++;
		again.data = copy(letter->data, letter->len);
		queue_push(&kafka->limbo, again);
	}
	return offset;
}

/* The next record to arrive: mostly the oldest, or one that overtakes it because that has to be sent again.
 */
static struct model_letter take_next(struct model_link *link)
{
	size_t at = 0;

	if (link->outbox.count > 1 && prng_below(link->kafka->prng, 50) == 0) {
		at = 1 + prng_below(link->kafka->prng, (unsigned)(link->outbox.count - 1));
		link->kafka->counts.overtaken++;
	}
	return queue_take(&link->outbox, at);
}

/* The process is told that a record timed out; it may be on its way all the same. */
static void time_out(struct model_link *link, struct model_letter *letter)
{
	link->kafka->counts.timeouts++;
	queue_push(&link->confirmations,
	           (struct model_letter){.tag = letter->tag, .status = STATUS_TIMEOUT});
	if (prng_chance(link->kafka->prng, 50))
		queue_push(&link->kafka->limbo, *letter);
	else
		free(letter->data);
}

void model_link_deliver(struct model_link *link)
{
	struct model_letter letter;
	enum status_code status = STATUS_OK;

	if (is_away(link) || link->outbox.count == 0)
		return;
	letter = take_next(link);
	if (prng_below(link->kafka->prng, 200) == 0) {
		time_out(link, &letter);
		return;
	}
	link->fates[letter.tag].offset = arrive(link->kafka, &letter);
	free(letter.data);
	link->overtaken |= link->fates[letter.tag].offset <= letter.after && !link->kafka->trusts_log;
	if (link->overtaken)
		status = STATUS_TIMEOUT;
	if (prng_below(link->kafka->prng, 200) == 0)
		status = STATUS_TIMEOUT; /* it arrived, and the answer got lost */
	queue_push(&link->confirmations, (struct model_letter){.tag = letter.tag, .status = status});
}

void model_link_confirm(struct model_link *link)
{
	struct model_letter letter;

	if (link->confirmations.count == 0)
		return;
	letter = queue_take(&link->confirmations, 0);
	if (letter.status == STATUS_OK)
		link->fates[letter.tag].confirmed = true;
	link->log.done(link->log.done_arg, letter.tag, letter.status);
}

void model_link_expire(struct model_link *link)
{
	int64_t now_ms = link->kafka->now_ms();

	while (link->outbox.count > 0 &&
	       now_ms >= link->outbox.items[link->outbox.first].appended_ms + MODEL_APPEND_TIMEOUT_MS) {
		struct model_letter letter = queue_take(&link->outbox, 0);

		time_out(link, &letter);
	}
}

size_t model_link_waiting(const struct model_link *link)
{
	return link->outbox.count + link->confirmations.count;
}

int64_t model_link_offset(const struct model_link *link, uint64_t tag)
{
	return tag < link->fate_count ? link->fates[tag].offset : 0;
}

bool model_link_is_confirmed(const struct model_link *link, uint64_t tag)
{
	return tag < link->fate_count && link->fates[tag].confirmed;
}

/* ---- Kafka ---- */

void model_kafka_init(struct model_kafka *kafka, struct prng *prng, int64_t (*now_ms)(void))
{
	*kafka = (struct model_kafka){.prng = prng, .now_ms = now_ms, .first = 1};
}

void model_kafka_release(struct model_kafka *kafka)
{
	for (size_t i = 0; i < kafka->count; i++)
		free(kafka->records[i].data);
	free(kafka->records);
	queue_release(&kafka->limbo);
	ops_release(&kafka->ops);
	ops_release(&kafka->late);
}

void model_kafka_deliver_late(struct model_kafka *kafka)
{
	struct model_letter letter;

	if (kafka->out || kafka->limbo.count == 0)
		return;
	letter = queue_take(&kafka->limbo, prng_below(kafka->prng, (unsigned)kafka->limbo.count));
	if (prng_chance(kafka->prng, 70)) {
		kafka->counts.late++;
		arrive(kafka, &letter);
	}
	free(letter.data);
}

void model_kafka_lose_tail(struct model_kafka *kafka, size_t count)
{
	while (count-- > 0 && (int64_t)kafka->count >= kafka->first)
		free(kafka->records[--kafka->count].data);
}

void model_kafka_recreate(struct model_kafka *kafka)
{
	while (kafka->count > 0)
		free(kafka->records[--kafka->count].data);
	kafka->first = 1;
}
