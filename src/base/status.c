/* SPDX-License-Identifier: Apache-2.0 */
#include "base/status.h"

#include <assert.h>
#include <stddef.h>

struct row {
	const char *name;
	const char *text;
	enum grpc_code grpc;
	bool retriable;
};

static const struct row ROWS[STATUS_COUNT] = {
#define X(name, grpc, retriable, text) {#name, text, GRPC_##grpc, retriable},
	STATUS_TABLE(X)
#undef X
};

/* The mapping of google.rpc.Code to HTTP (google/rpc/code.proto). */
static const int HTTP[] = {
	[GRPC_OK] = 200,
	[GRPC_CANCELED] = 499,
	[GRPC_UNKNOWN] = 500,
	[GRPC_INVALID_ARGUMENT] = 400,
	[GRPC_DEADLINE_EXCEEDED] = 504,
	[GRPC_NOT_FOUND] = 404,
	[GRPC_ALREADY_EXISTS] = 409,
	[GRPC_PERMISSION_DENIED] = 403,
	[GRPC_RESOURCE_EXHAUSTED] = 429,
	[GRPC_FAILED_PRECONDITION] = 400,
	[GRPC_ABORTED] = 409,
	[GRPC_OUT_OF_RANGE] = 400,
	[GRPC_UNIMPLEMENTED] = 501,
	[GRPC_INTERNAL] = 500,
	[GRPC_UNAVAILABLE] = 503,
	[GRPC_DATA_LOSS] = 500,
	[GRPC_UNAUTHENTICATED] = 401,
};

static const struct row *find_row(enum status_code code)
{
	assert(code < STATUS_COUNT);
	return &ROWS[code];
}

const char *status_text(const struct status *status)
{
	return status->message != NULL ? status->message : find_row(status->code)->text;
}

const char *status_code_text(enum status_code code)
{
	return find_row(code)->text;
}

const char *status_code_name(enum status_code code)
{
	return find_row(code)->name;
}

enum grpc_code status_grpc(enum status_code code)
{
	return find_row(code)->grpc;
}

int status_http(enum status_code code)
{
	return HTTP[find_row(code)->grpc];
}

bool status_is_retriable(enum status_code code)
{
	return find_row(code)->retriable;
}
