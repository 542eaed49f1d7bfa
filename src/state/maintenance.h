/* SPDX-License-Identifier: Apache-2.0 */
/* Alarms and members: the small tables. */
#ifndef KETA_MAINTENANCE_H
#define KETA_MAINTENANCE_H

#include "base/arena.h"
#include "base/status.h"
#include "record.pb-c.h"
#include "rpc.pb-c.h"
#include "state/store.h"

/* Inside apply: raises or clears an alarm. The response names it when it was
 * there (cleared), or is there now (raised). */
enum status_code maintenance_apply_alarm(struct store *st, const Pb__AlarmRequest *request, struct arena *arena,
                                         Pb__AlarmResponse **response);

/* The alarms of one kind, or all of them for NONE, into the response. */
enum status_code maintenance_read_alarms(struct view *view, Pb__AlarmType kind, struct arena *arena,
                                         size_t *count, Pb__AlarmMember ***alarms);

/* Inside apply: the birth of the cluster. STATUS_BAD_RECORD when there is one. */
enum status_code maintenance_apply_genesis(struct store *st, const Pb__Genesis *genesis);

enum status_code maintenance_read_members(struct view *view, struct arena *arena, size_t *count,
                                          Pb__Member ***members);

#endif
