/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A record as bytes: an envelope around the packed Pb__Record.
 *
 *     0      4      8              16
 *     'KETA' level  XXH64 of body  body     (seeded with the level less one)
 *
 * Integers are little-endian. The level says which format the body has; a
 * binary that does not know it must stop rather than guess. Under a shared log
 * the level in force is state: it rises when all members know the next one.
 */
#ifndef KETA_RECORD_H
#define KETA_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/status.h"
#include "record.pb-c.h"

enum {
	RECORD_LEVEL = 1, /* the newest format this binary writes and reads */
	RECORD_ENVELOPE_BYTES = 16,
};

/* Appends the record to the buffer, in the format of a level that is known here. STATUS_NO_MEMORY. */
enum status_code record_pack(const Pb__Record *rec, uint32_t level, struct buf *buf);

/* Reads a record of up to that level into the arena. STATUS_BAD_RECORD when magic,
 * checksum or body are wrong; STATUS_NEWER_RECORD; STATUS_NO_MEMORY. */
enum status_code record_unpack(const uint8_t *data, size_t len, uint32_t max_level, struct arena *arena,
                               Pb__Record **out);

/* Makes the record carry a request, by the request's type: the member of the
 * oneof that has it. STATUS_UNIMPLEMENTED when no member does. The request is
 * borrowed. */
enum status_code record_set_request(Pb__Record *rec, const ProtobufCMessage *request);

/* The request that it carries; NULL for an unknown or missing one. */
const ProtobufCMessage *record_request(const Pb__Record *rec);

#endif
