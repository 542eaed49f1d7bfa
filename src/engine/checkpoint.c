/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/checkpoint.h"

#include <string.h>

#include "base/wire.h"

enum {
	STEP_ROWS = 500, /* a snapshot of some milliseconds */
	MARKER_CAP_BYTES = 16 << 20,
};

void marker_init(struct marker *marker)
{
	arena_init(&marker->arena, MARKER_CAP_BYTES, NULL, 0);
	marker->pb = NULL;
}

void marker_release(struct marker *marker)
{
	arena_release(&marker->arena);
	marker->pb = NULL;
}

static enum status_code unpack(struct marker *marker, const uint8_t *data, size_t len)
{
	ProtobufCMessage *message;
	enum status_code status;

	arena_reset(&marker->arena);
	marker->pb = NULL;
	status = wire_unpack(&pb__marker__descriptor, data, len, &marker->arena, &message);
	if (status == STATUS_OK)
		marker->pb = (Pb__Marker *)message;
	return status == STATUS_BAD_REQUEST ? STATUS_BAD_RECORD : status;
}

static enum status_code take_row(void *arg, const struct table_row *row)
{
	if (row->key_len != strlen(ROW_MARKER_KEY) || memcmp(row->key, ROW_MARKER_KEY, row->key_len) != 0 ||
	    row->value == NULL)
		return STATUS_OK;
	return unpack(arg, row->value, row->value_len);
}

enum status_code marker_read(struct marker *marker, struct tables *tables)
{
	arena_reset(&marker->arena);
	marker->pb = NULL;
	return tables_read(tables, TABLE_MARKERS, take_row, marker);
}

enum status_code marker_set(struct marker *marker, const Pb__Marker *pb)
{
	struct buf packed;
	enum status_code status = STATUS_NO_MEMORY;

	buf_init(&packed);
	wire_pack(&pb->base, &packed);
	if (!packed.failed)
		status = unpack(marker, packed.data, packed.len);
	buf_release(&packed);
	return status;
}

enum status_code checkpoint_begin(struct checkpoint *checkpoint, struct tables *tables, struct view *view,
                                  const Pb__Marker *since)
{
	enum status_code status;

	checkpoint->tables = tables;
	checkpoint->rows = 0;
	buf_init(&checkpoint->packed);
	status = snapshot_begin(&checkpoint->snapshot, view, since);
	if (status != STATUS_OK)
		return status;
	status = tables_begin(tables);
	if (status != STATUS_OK)
		checkpoint_release(checkpoint);
	return status;
}

static enum status_code put_row(void *arg, bool is_lease, const uint8_t key[ROW_KEY_BYTES],
                                const void *value, size_t len)
{
	struct checkpoint *checkpoint = arg;

	checkpoint->rows++;
	return tables_put(checkpoint->tables, is_lease ? TABLE_LEASES : TABLE_KV, key, ROW_KEY_BYTES, value,
	                  len);
}

enum status_code checkpoint_step(struct checkpoint *checkpoint, bool *done)
{
	return snapshot_step(&checkpoint->snapshot, STEP_ROWS, put_row, checkpoint, done);
}

enum status_code checkpoint_commit(struct checkpoint *checkpoint, int64_t now_wall_ms)
{
	Pb__Marker *marker = checkpoint->snapshot.marker;
	enum status_code status;

	marker->time_ms = now_wall_ms;
	buf_reset(&checkpoint->packed);
	wire_pack(&marker->base, &checkpoint->packed);
	if (checkpoint->packed.failed)
		return STATUS_NO_MEMORY;
	status = tables_put(checkpoint->tables, TABLE_MARKERS, ROW_MARKER_KEY, strlen(ROW_MARKER_KEY),
	                    checkpoint->packed.data, checkpoint->packed.len);
	return status == STATUS_OK ? tables_commit(checkpoint->tables) : status;
}

void checkpoint_release(struct checkpoint *checkpoint)
{
	snapshot_release(&checkpoint->snapshot);
	buf_release(&checkpoint->packed);
}
