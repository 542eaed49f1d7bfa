/* SPDX-License-Identifier: Apache-2.0 */
/* Random messages of any type, for tests of laws that hold for all of them. */
#ifndef KETA_TEST_MESSAGES_H
#define KETA_TEST_MESSAGES_H

#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"

/* The message types of all requests and responses of the API, request first:
 * two for each method. method_init must have been called. */
size_t messages_type_count(void);
const ProtobufCMessageDescriptor *messages_type(size_t index);

/* A message with some fields set, in the arena. The same state of the
 * generator gives the same message; it must not be 0. */
ProtobufCMessage *messages_random(const ProtobufCMessageDescriptor *type, uint64_t *generator,
                                  struct arena *arena);

#endif
