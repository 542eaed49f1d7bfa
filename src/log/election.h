/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is to lead: a hint that is given to one node at a time, mostly. It may come
 * late, and two may have it for a while; what makes a leader is the term in the
 * log (engine/leader.h).
 */
#ifndef KETA_ELECTION_H
#define KETA_ELECTION_H

#include <stdbool.h>

struct election;

struct election_ops {
	bool (*holds)(struct election *election);
	void (*stand)(struct election *election, bool stands);
	void (*resign)(struct election *election);
	void (*close)(struct election *election);
};

/* An implementation's struct starts with this. */
struct election {
	const struct election_ops *ops;
};

/* Whether this node is the one that is to lead. Does not block. Any thread. */
static inline bool election_holds(struct election *election)
{
	return election->ops->holds(election);
}

/* Whether this node wants to lead, as it does at first. One that cannot do what a
 * leader has to lets others have it, soon. Any thread. */
static inline void election_stand(struct election *election, bool stands)
{
	election->ops->stand(election, stands);
}

/* Gives it up so that another node gets it at once; takes part no more. */
static inline void election_resign(struct election *election)
{
	election->ops->resign(election);
}

/* NULL is fine. */
static inline void election_close(struct election *election)
{
	if (election != NULL)
		election->ops->close(election);
}

#endif
