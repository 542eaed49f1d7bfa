/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/plants.h"

#include <string.h>

#include "base/seed.h"

static const char *const NAMES[] = {
	"no-fencing",
};

enum { NAME_COUNT = sizeof NAMES / sizeof NAMES[0] };

static const char *planted_name;
static bool quiet;
static struct prng ids;

static bool is_planted(const char *name)
{
	return planted_name != NULL && strcmp(planted_name, name) == 0;
}

const char *plants_name(size_t number)
{
	return number < NAME_COUNT ? NAMES[number] : NULL;
}

bool plants_choose(const char *name)
{
	planted_name = NULL;
	for (size_t i = 0; name != NULL && i < NAME_COUNT; i++)
		if (strcmp(NAMES[i], name) == 0)
			planted_name = NAMES[i];
	return name == NULL || planted_name != NULL;
}

bool plants_are_quiet(void)
{
	return quiet;
}

void plants_be_quiet(bool is_quiet)
{
	quiet = is_quiet;
}

void plants_begin(struct model_kafka *kafka, struct node *nodes, int count)
{
	(void)nodes;
	(void)count;
	prng_init(&ids, prng_next(kafka->prng));
	kafka->fences_nobody = is_planted("no-fencing");
}

void plants_end(void)
{
}

/* ---- What is drawn by chance repeats with the seed ---- */

enum status_code __wrap_engine_draw_id(uint64_t *id);
enum status_code __wrap_engine_draw_id(uint64_t *id)
{
	*id = (prng_next(&ids) >> 1) | 1;
	return STATUS_OK;
}

uint64_t __wrap_seed_draw(void);
uint64_t __wrap_seed_draw(void)
{
	return 4711;
}
