/* SPDX-License-Identifier: Apache-2.0 */
/* Records that the engine itself proposes and waits for, without holding a
 * thread: whoever waits looks again at its next turn. */
#include "base/arena.h"
#include "base/wire.h"
#include "engine/internal.h"

enum { REQUEST_CAP_BYTES = 1 << 20 };

static void on_finished(struct call *call, bool slow)
{
	struct own_record *own = call->edge;

	(void)slow;
	own->status = call->status.code;
	call_free(call);
	atomic_store_explicit(&own->waiting, false, memory_order_release);
}

static const struct call_ops OPS = {.finish = on_finished};

/* The call outlives the caller's request. */
static enum status_code copy_request(struct call *call, const ProtobufCMessage *request)
{
	struct buf packed;
	ProtobufCMessage *copy = NULL;
	enum status_code status = STATUS_NO_MEMORY;

	buf_init(&packed);
	wire_pack(request, &packed);
	if (!packed.failed)
		status = wire_unpack(request->descriptor, packed.data, packed.len, &call->arena, &copy);
	buf_release(&packed);
	call->request = copy;
	return status;
}

void own_record_start(struct engine *engine, struct own_record *own, const ProtobufCMessage *request)
{
	struct call *call = call_new(&OPS, own, REQUEST_CAP_BYTES);

	own->status = call != NULL ? copy_request(call, request) : STATUS_NO_MEMORY;
	if (own->status != STATUS_OK) {
		call_free(call);
		return;
	}
	atomic_store(&own->waiting, true);
	propose_own(engine, call);
}
