/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bugs that are planted, to see that the simulation finds them. Where a function
 * of the product has to be another, the linker puts one of plants.c in its place
 * (--wrap, see plants.syms); what is not planted is passed on. So the product's
 * objects are those that are shipped.
 */
#ifndef KETA_SIM_PLANTS_H
#define KETA_SIM_PLANTS_H

#include <stdbool.h>
#include <stddef.h>

#include "sim/node.h"

/* The name of the bug of this number; NULL behind the last. */
const char *plants_name(size_t number);

/* Which one is to be planted; NULL: none. False when there is none of that name. */
bool plants_choose(const char *name);

/* Whether what breaks is expected and need not be told. */
bool plants_are_quiet(void);
void plants_be_quiet(bool quiet);

/* Around a run. */
void plants_begin(struct model_kafka *kafka, struct node *nodes, int count);
/* A record that no node can read has got to this offset. */
void plants_poison(struct node *node, int64_t offset);

#endif
