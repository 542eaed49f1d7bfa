/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run of the simulation: some nodes over a model of Kafka, clients, faults,
 * and a scheduler that is all of chance. The same seed gives the same run.
 *
 * What must hold is checked as it happens:
 *
 *   reads     a linearizable read sees every write that was acknowledged, and every read answered, before
 * it began writes    one that was acknowledged is in the log, confirmed, and was answered as a plain replay
 * answers it nodes     the state of a node at a position of the log, however it got there, is that of a
 * plain replay tables    what is committed in them is the state at the newest marker, and the log reaches
 * back to it leases    none ends before its time, nor by time that passed while nobody could renew it
 *   leaders   there are no two of one term
 *   the end   when all is well again all nodes are ready and alike, and no call is left waiting
 */
#ifndef KETA_SIM_H
#define KETA_SIM_H

#include <stdbool.h>
#include <stdint.h>

struct sim_options {
	uint64_t seed;
	int steps;
	bool trace;
	const char *bug; /* NULL: none is planted */
};

/* What happened, over all runs. */
#define SIM_COUNTS(X)                                                                                      \
	X(steps)                                                                                           \
	X(calls)                                                                                           \
	X(acknowledged) X(refused) X(lost) X(reads) X(old_reads) X(barriers) X(records) X(ignored)         \
		X(twins) X(overtaken) X(late) X(timeouts) X(expiries) X(elections) X(offices)              \
			X(checkpoints) X(fenced) X(unknown_commits) X(trims) X(rebuilds) X(gaps) X(kills)  \
				X(power_cuts) X(wipes) X(stops) X(pauses) X(stalls) X(leaps) X(outages)    \
					X(cuts) X(verdicts) X(poisons) X(upgrades) X(raises) X(diverged)   \
						X(twin_names) X(lost_tails) X(recreated) X(unnoticed)      \
							X(disk_faults) X(sums)

struct sim_counts {
#define X(name) int64_t name;
	SIM_COUNTS(X)
#undef X
};

/* True when everything held; else what broke was printed. */
bool sim_run(const struct sim_options *options, const char *dir, struct sim_counts *counts);

#endif
