/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every way a call can end, once: its name, its gRPC code, the text that a
 * client reads, and whether the same call may succeed when it is sent again.
 * Codes and texts are etcd's; clients compare them.
 *
 * A fallible function of this project returns enum status_code; STATUS_OK is
 * 0. Results go out through pointers.
 */
#ifndef KETA_STATUS_H
#define KETA_STATUS_H

#include <stdbool.h>

/* gRPC status codes (github.com/grpc/grpc, doc/statuscodes.md). */
enum grpc_code {
	GRPC_OK = 0,
	GRPC_CANCELED = 1,
	GRPC_UNKNOWN = 2,
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_NOT_FOUND = 5,
	GRPC_ALREADY_EXISTS = 6,
	GRPC_PERMISSION_DENIED = 7,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_FAILED_PRECONDITION = 9,
	GRPC_ABORTED = 10,
	GRPC_OUT_OF_RANGE = 11,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
	GRPC_DATA_LOSS = 15,
	GRPC_UNAUTHENTICATED = 16,
};

/* name, gRPC code, may be retried, text */
#define STATUS_TABLE(X)                                                                                    \
	X(OK, OK, false, "")                                                                               \
	/* the request */                                                                                  \
	X(BAD_REQUEST, INVALID_ARGUMENT, false, "the request could not be read")                           \
	X(EMPTY_KEY, INVALID_ARGUMENT, false, "etcdserver: key is not provided")                           \
	X(KEY_NOT_FOUND, INVALID_ARGUMENT, false, "etcdserver: key not found")                             \
	X(VALUE_PROVIDED, INVALID_ARGUMENT, false, "etcdserver: value is provided")                        \
	X(LEASE_PROVIDED, INVALID_ARGUMENT, false, "etcdserver: lease is provided")                        \
	X(TOO_MANY_OPS, INVALID_ARGUMENT, false, "etcdserver: too many operations in txn request")         \
	X(DUPLICATE_KEY, INVALID_ARGUMENT, false, "etcdserver: duplicate key given in txn request")        \
	X(INVALID_SORT, INVALID_ARGUMENT, false, "etcdserver: invalid sort option")                        \
	X(REQUEST_TOO_LARGE, INVALID_ARGUMENT, false, "etcdserver: request is too large")                  \
	X(MESSAGE_TOO_LARGE, RESOURCE_EXHAUSTED, false, "grpc: received message larger than max")          \
	X(NO_MEMORY, RESOURCE_EXHAUSTED, true, "etcdserver: not enough memory for this request")           \
	/* the store */                                                                                    \
	X(COMPACTED, OUT_OF_RANGE, false, "etcdserver: mvcc: required revision has been compacted")        \
	X(FUTURE_REVISION, OUT_OF_RANGE, false,                                                            \
	  "etcdserver: mvcc: required revision is a future revision")                                      \
	X(NO_SPACE, RESOURCE_EXHAUSTED, false, "etcdserver: mvcc: database space exceeded")                \
	X(CORRUPT, DATA_LOSS, false, "etcdserver: corrupt cluster")                                        \
	X(LEASE_NOT_FOUND, NOT_FOUND, false, "etcdserver: requested lease not found")                      \
	X(LEASE_EXISTS, FAILED_PRECONDITION, false, "etcdserver: lease already exists")                    \
	X(LEASE_TTL_TOO_LARGE, OUT_OF_RANGE, false, "etcdserver: too large lease TTL")                     \
	X(NOT_LEADER, UNKNOWN, false, "election: not leader")                                              \
	X(NO_LEADER, UNKNOWN, false, "election: no leader")                                                \
	X(LEADER_KEY_MISSING, UNKNOWN, false, "\"leader\" field must be provided")                         \
	X(SESSION_EXPIRED, UNKNOWN, false, "mutex: session is expired")                                    \
	X(UNKNOWN, UNKNOWN, false, "unknown error")                                                        \
	X(UNKNOWN_ALARM_ACTION, INVALID_ARGUMENT, false, "etcdserver: unknown alarm action")               \
	/* the server */                                                                                   \
	X(TOO_MANY_REQUESTS, RESOURCE_EXHAUSTED, true, "etcdserver: too many requests")                    \
	X(TIMEOUT, UNAVAILABLE, true, "etcdserver: request timed out")                                     \
	X(STOPPED, UNAVAILABLE, true, "etcdserver: server stopped")                                        \
	X(DEADLINE_EXCEEDED, DEADLINE_EXCEEDED, true, "context deadline exceeded")                         \
	X(CANCELED, CANCELED, true, "context canceled")                                                    \
	X(NOT_FOUND, NOT_FOUND, false, "Not Found")                                                        \
	X(METHOD_NOT_ALLOWED, UNIMPLEMENTED, false, "Method Not Allowed")                                  \
	X(UNIMPLEMENTED, UNIMPLEMENTED, false, "unimplemented")                                            \
	/* this process: never a client's doing */                                                         \
	X(IO_ERROR, UNAVAILABLE, true, "etcdserver: storage failed, see the server's log")                 \
	X(DISK_FULL, UNAVAILABLE, true, "etcdserver: no space left on the server's disk")                  \
	X(OVER_BUDGET, INTERNAL, true, "etcdserver: a read was longer than its thread allows")             \
	X(BAD_RECORD, INTERNAL, false, "etcdserver: a log record could not be read")                       \
	X(HALF_APPLIED, INTERNAL, false, "etcdserver: a log record failed half-way")                       \
	X(BAD_CONFIG, FAILED_PRECONDITION, false, "the configuration is not valid")                        \
	X(BAD_DATABASE, FAILED_PRECONDITION, false, "the database is not one that this version can use")   \
	X(CANNOT_LISTEN, UNAVAILABLE, true, "one of the listeners cannot be listened at")                  \
	X(TOO_FEW_FILES, RESOURCE_EXHAUSTED, false, "too few files may be open at once")                   \
	X(BUSY, UNAVAILABLE, true, "the data directory is in use by another server")                       \
	X(NO_KAFKA, UNAVAILABLE, true, "Kafka cannot be reached")                                          \
	X(BAD_KAFKA, FAILED_PRECONDITION, false, "Kafka cannot be used as it is set up")                   \
	X(BAD_LOG, FAILED_PRECONDITION, false, "the log in Kafka is not the one that this node follows")   \
	X(FENCED, ABORTED, false, "another node leads now")                                                \
	X(REPLACED, ABORTED, false, "another node of the same name has joined")                            \
	X(NEWER_RECORD, FAILED_PRECONDITION, false, "a log record was written by a newer version")         \
	X(NOT_READY, UNAVAILABLE, true, "etcdserver: this node is not ready yet, see /readyz?verbose")     \
	X(INTERNAL, INTERNAL, false, "etcdserver: internal error, see the server's log")

enum status_code {
#define X(name, grpc, retriable, text) STATUS_##name,
	STATUS_TABLE(X)
#undef X
		STATUS_COUNT
};

/* How a call ended. 'message' replaces the text of the code where that has to
 * name a value; NULL takes the code's own. It lives as long as the call. */
struct status {
	enum status_code code;
	const char *message;
};

/* The text a client reads. */
const char *status_text(const struct status *status);
const char *status_code_text(enum status_code code);

/* The constant's name without its prefix, for logs and tests. */
const char *status_code_name(enum status_code code);

enum grpc_code status_grpc(enum status_code code);

/* The HTTP status that etcd's gateway gives a gRPC code. */
int status_http(enum status_code code);

bool status_is_retriable(enum status_code code);

#endif
