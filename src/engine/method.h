/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The method table: every RPC of the API once, made from api/methods.def and
 * the generated service descriptors. An edge finds a method by its HTTP path
 * or gRPC name; the engine follows 'kind' and calls 'run'; the codecs take
 * 'input' and 'output'. Adding an RPC is one row in methods.def and one
 * handler.
 */
#ifndef KETA_METHOD_H
#define KETA_METHOD_H

#include <stdbool.h>
#include <stddef.h>

#include <protobuf-c/protobuf-c.h>

struct call;
struct engine;
struct reader;
struct stream;

/* The path of a call through the engine. */
enum method_kind {
	METHOD_READ,   /* barrier unless serializable, then a handler on a read connection */
	METHOD_WRITE,  /* validated, appended to the log, answered from apply; a
	                * transaction that only reads goes the way of a read */
	METHOD_LOCAL,  /* answered by this node, from what it knows or by calls of its
	                * own; no barrier */
	METHOD_STREAM, /* messages in one or both directions */
};

/* The rule that says who may call it; etcd's. A handler that needs more than
 * the rule says (a user who asks about another) sees to it. */
enum method_right {
	RIGHT_NONE,  /* anyone */
	RIGHT_USER,  /* any authenticated user */
	RIGHT_KEYS,  /* by the keys named in the request */
	RIGHT_LEASE, /* by the keys attached to the lease */
	RIGHT_ADMIN, /* the root role */
};

/* Runs a call: true when it is over (call->response is set, or call_fail was
 * called), false when it is pending. NULL in the table: not built yet,
 * STATUS_UNIMPLEMENTED. */
typedef bool method_run_fn(struct engine *engine, struct reader *reader, struct call *call);

/* Begins a stream: sets its handler and state (engine/internal.h). False when it
 * is refused, after stream_fail. */
typedef bool method_open_fn(struct engine *engine, struct stream *stream);

struct method {
	const char *service;   /* "KV" */
	const char *name;      /* "Range" */
	const char *grpc_path; /* "/etcdserverpb.KV/Range" */
	const char *paths[2];  /* HTTP, NULL where there is none */
	enum method_kind kind;
	enum method_right right;
	bool request_stream; /* the client sends several messages */
	bool response_stream;
	bool paired;          /* each message is answered by one, and no more come when the client has ended */
	method_run_fn *run;   /* NULL: not built, or a stream */
	method_open_fn *open; /* NULL: not built, or no stream */
	const ProtobufCMessageDescriptor *input;
	const ProtobufCMessageDescriptor *output;
	size_t index; /* in the table */
};

/* Completes the table and builds what the look-ups need. Before any other
 * function here and before any other thread; again does no harm. */
void method_init(void);

size_t method_count(void);
const struct method *method_at(size_t index);

/* By HTTP path, such as "/v3/kv/range", cleaned and decoded; NULL when there
 * is none. Any thread, as all that follow. */
const struct method *method_by_path(const char *path, size_t len);

/* By gRPC path, such as "/etcdserverpb.KV/Range". */
const struct method *method_by_grpc_path(const char *path, size_t len);

/* By service and name; for the engine's own calls and for tests. */
const struct method *method_by_name(const char *service, const char *name);

/* The method whose request type this is, or NULL (the first in the table). */
const struct method *method_by_input(const ProtobufCMessageDescriptor *input);

#endif
