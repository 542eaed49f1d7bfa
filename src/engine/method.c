/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows are compiled in; what the services know, the message types, is
 * filled in once at the start. Look-ups by path are on the way of every
 * request: two small hash tables, never more than half full.
 */
#include "engine/method.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>
#include <xxhash.h>

#include "election.pb-c.h"
#include "engine/handlers.h"
#include "lock.pb-c.h"
#include "rpc.pb-c.h"

#define STREAMS_NONE .request_stream = false, .response_stream = false
#define STREAMS_RESPONSE .request_stream = false, .response_stream = true
#define STREAMS_BOTH .request_stream = true, .response_stream = true
#define STREAMS_PAIRED STREAMS_BOTH, .paired = true

#define HANDLER_READ(handler) .run = handler
#define HANDLER_WRITE(handler) .run = handler
#define HANDLER_LOCAL(handler) .run = handler
#define HANDLER_STREAM(handler) .open = handler

static struct method methods[] = {
#define METHOD(package_, service_, rpc_, kind_, right_, streams_, run_, path_, alias_)                     \
	{                                                                                                  \
		.service = #service_,                                                                      \
		.name = #rpc_,                                                                             \
		.grpc_path = "/" #package_ "." #service_ "/" #rpc_,                                        \
		.paths = {path_, alias_},                                                                  \
		.kind = METHOD_##kind_,                                                                    \
		.right = RIGHT_##right_,                                                                   \
		STREAMS_##streams_,                                                                        \
		HANDLER_##kind_(run_),                                                                     \
	},
#include "methods.def"
#undef METHOD
};

enum {
	METHODS = sizeof methods / sizeof methods[0],
	SLOTS = 128,
};

/* Each method has at most two paths. */
_Static_assert((int)METHODS * 2 <= (int)SLOTS, "the tables must keep free slots");

struct slot {
	const char *path; /* NULL: free */
	size_t len;
	const struct method *method;
};

static struct slot http_slots[SLOTS];
static struct slot grpc_slots[SLOTS];

static const ProtobufCServiceDescriptor *const SERVICES[] = {
	&pb__kv__descriptor,          &pb__watch__descriptor,    &pb__lease__descriptor,
	&pb__cluster__descriptor,     &pb__auth__descriptor,     &pb__lock__descriptor,
	&pb__maintenance__descriptor, &pb__election__descriptor,
};

/* The slot that holds the path, or the free one where it belongs. */
static struct slot *find_slot(struct slot slots[static SLOTS], const char *path, size_t len)
{
	size_t at = (size_t)XXH3_64bits(path, len) % SLOTS;

	while (slots[at].path != NULL && (slots[at].len != len || memcmp(slots[at].path, path, len) != 0))
		at = (at + 1) % SLOTS;
	return &slots[at];
}

static void add_path(struct slot slots[static SLOTS], const char *path, const struct method *method)
{
	struct slot *slot;

	if (path == NULL)
		return;
	slot = find_slot(slots, path, strlen(path));
	assert(slot->path == NULL || slot->method == method);
	*slot = (struct slot){.path = path, .len = strlen(path), .method = method};
}

static const ProtobufCMethodDescriptor *find_descriptor(const struct method *method)
{
	for (size_t i = 0; i < sizeof SERVICES / sizeof SERVICES[0]; i++) {
		if (strcmp(SERVICES[i]->short_name, method->service) == 0)
			return protobuf_c_service_descriptor_get_method_by_name(SERVICES[i], method->name);
	}
	return NULL;
}

void method_init(void)
{
	for (size_t i = 0; i < METHODS; i++) {
		struct method *method = &methods[i];
		const ProtobufCMethodDescriptor *descriptor = find_descriptor(method);

		assert(descriptor != NULL);
		method->input = descriptor->input;
		method->output = descriptor->output;
		method->index = i;
		add_path(grpc_slots, method->grpc_path, method);
		add_path(http_slots, method->paths[0], method);
		add_path(http_slots, method->paths[1], method);
	}
}

size_t method_count(void)
{
	return METHODS;
}

const struct method *method_at(size_t index)
{
	assert(index < METHODS);
	return &methods[index];
}

const struct method *method_by_path(const char *path, size_t len)
{
	return find_slot(http_slots, path, len)->method;
}

const struct method *method_by_grpc_path(const char *path, size_t len)
{
	return find_slot(grpc_slots, path, len)->method;
}

const struct method *method_by_name(const char *service, const char *name)
{
	for (size_t i = 0; i < METHODS; i++) {
		if (strcmp(methods[i].service, service) == 0 && strcmp(methods[i].name, name) == 0)
			return &methods[i];
	}
	return NULL;
}

const struct method *method_by_input(const ProtobufCMessageDescriptor *input)
{
	for (size_t i = 0; i < METHODS; i++) {
		if (methods[i].input == input)
			return &methods[i];
	}
	return NULL;
}
