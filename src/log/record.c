/* SPDX-License-Identifier: Apache-2.0 */
#include "log/record.h"

#include <endian.h>
#include <string.h>
#include <xxhash.h>

#include "base/wire.h"

static const uint8_t MAGIC[4] = {'K', 'E', 'T', 'A'};

/* The level is covered as well. */
static uint64_t checksum_of(const uint8_t *body, size_t len, uint32_t level)
{
	return XXH64(body, len, level - 1);
}

enum status_code record_pack(const Pb__Record *rec, uint32_t level, struct buf *buf)
{
	uint8_t envelope[RECORD_ENVELOPE_BYTES] = {0};
	uint32_t wire_level = htole32(level);
	size_t start = buf->len;
	uint64_t checksum;

	buf_append(buf, envelope, sizeof envelope);
	wire_pack(&rec->base, buf);
	if (buf->failed)
		return STATUS_NO_MEMORY;
	checksum = htole64(checksum_of(buf->data + start + sizeof envelope,
	                               buf->len - start - sizeof envelope, level));
	memcpy(buf->data + start, MAGIC, sizeof MAGIC);
	memcpy(buf->data + start + 4, &wire_level, sizeof wire_level);
	memcpy(buf->data + start + 8, &checksum, sizeof checksum);
	return STATUS_OK;
}

enum status_code record_unpack(const uint8_t *data, size_t len, uint32_t max_level, struct arena *arena,
                               Pb__Record **out)
{
	ProtobufCMessage *message;
	uint32_t level;
	uint64_t checksum;
	enum status_code status;

	if (len < RECORD_ENVELOPE_BYTES || memcmp(data, MAGIC, sizeof MAGIC) != 0)
		return STATUS_BAD_RECORD;
	memcpy(&level, data + 4, sizeof level);
	memcpy(&checksum, data + 8, sizeof checksum);
	data += RECORD_ENVELOPE_BYTES;
	len -= RECORD_ENVELOPE_BYTES;
	if (level == 0 || checksum_of(data, len, le32toh(level)) != le64toh(checksum))
		return STATUS_BAD_RECORD;
	if (le32toh(level) > max_level)
		return STATUS_NEWER_RECORD;
	status = wire_unpack(&pb__record__descriptor, data, len, arena, &message);
	if (status == STATUS_OK)
		*out = (Pb__Record *)message;
	return status == STATUS_BAD_REQUEST ? STATUS_BAD_RECORD : status;
}

static const ProtobufCFieldDescriptor *find_member(const ProtobufCMessageDescriptor *type)
{
	for (unsigned i = 0; i < pb__record__descriptor.n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &pb__record__descriptor.fields[i];

		if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) && field->descriptor == type)
			return field;
	}
	return NULL;
}

enum status_code record_set_request(Pb__Record *rec, const ProtobufCMessage *request)
{
	const ProtobufCFieldDescriptor *field = find_member(request->descriptor);

	if (field == NULL)
		return STATUS_UNIMPLEMENTED;
	rec->request_case = (Pb__Record__RequestCase)field->id;
	memcpy((uint8_t *)rec + field->offset, &request, sizeof request);
	return STATUS_OK;
}

const ProtobufCMessage *record_request(const Pb__Record *rec)
{
	const ProtobufCFieldDescriptor *field;
	const ProtobufCMessage *request;

	if (rec->request_case == PB__RECORD__REQUEST__NOT_SET)
		return NULL;
	field = protobuf_c_message_descriptor_get_field(&pb__record__descriptor, rec->request_case);
	if (field == NULL)
		return NULL;
	memcpy(&request, (const uint8_t *)rec + field->offset, sizeof request);
	return request;
}
