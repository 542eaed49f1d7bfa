// SPDX-License-Identifier: Apache-2.0

package main

// Leases: holders grant short ones, attach a key to each, renew it a while at
// any endpoint, and leave it. An acknowledged grant or renewal promises the
// lease's time, counted from when it was sent: until then nobody may be told
// that the lease or its key is gone. A lease that nobody renews must end.

import (
	"fmt"
	"math/rand"
	"time"
)

type lease struct {
	id        int64
	ttl       time.Duration
	key       string
	promised  int64 // until when it lives at least: from the last acknowledged renewal
	renewed   int   // acknowledged
	mayEnd    int64 // until when a renewal may make it live, answered or not
	attached  bool  // the key was put, acknowledged
	revoked   int64 // when a revocation was sent, answered or not; 0: never
	gone      int64 // when it was first told to be gone; 0: never
	told      string
	deletedAt int64 // the revision at which its key went, by the watches
}

func (l *lease) sent(at int64) {
	if until := at + int64(l.ttl); until > l.mayEnd {
		l.mayEnd = until
	}
}

func (l *lease) acknowledged(sent int64) {
	if until := sent + int64(l.ttl); until > l.promised {
		l.promised = until
	}
	l.renewed++
}

func (l *lease) isGone(at int64, how string) {
	if l.gone == 0 || at < l.gone {
		l.gone, l.told = at, how
	}
}

// holder is a client that holds leases, one after the other.
type holder struct {
	*client
}

func (h *holder) post(kind, path string, body map[string]any, answer any) (outcome, int64) {
	sent := now()
	what, err := h.caller.post(h.endpoints[h.random.Intn(len(h.endpoints))], path, h.options.timeout, body, answer)
	text := ""
	if told, ok := err.(*failure); ok && told.HTTP == 404 {
		what, text = done, "" // not found is an answer like another
	} else if err != nil {
		text = err.Error()
		time.Sleep(pauseWhenDown)
	}
	h.counts.add(kind, what, text)
	return what, sent
}

func (h *holder) hold() {
	leases := []*lease{}
	defer func() {
		h.keep(h.ops)
		h.mu.Lock()
		h.run.leases = append(h.run.leases, leases...)
		h.mu.Unlock()
	}()
	for !h.stopped() {
		l := &lease{id: h.options.seed%1e9*1e6 + h.nextID.Add(1), ttl: time.Duration(2+h.random.Intn(5)) * time.Second}
		l.key = fmt.Sprintf("%sl/%d", h.prefix, l.id)
		answer := leaseAnswer{}
		what, sent := h.post("lease grant", "lease/grant",
			map[string]any{"ID": fmt.Sprint(l.id), "TTL": fmt.Sprint(int64(l.ttl.Seconds()))}, &answer)
		if what == notSent || what == refused {
			continue
		}
		leases = append(leases, l)
		l.sent(sent)
		if what == unknown {
			continue
		}
		l.acknowledged(sent)
		h.live(l)
	}
}

// live renews a lease for a while and looks at it.
func (h *holder) live(l *lease) {
	h.attach(l)
	end := time.Now().Add(time.Duration(h.random.Int63n(int64(5 * l.ttl))))
	for !h.stopped() && l.gone == 0 && time.Now().Before(end) {
		h.rest(l.ttl/8 + time.Duration(h.random.Int63n(int64(l.ttl/4))))
		switch h.random.Intn(4) {
		case 0:
			h.timeToLive(l)
		case 1:
			h.look(l)
		default:
			h.renew(l)
		}
	}
	switch h.random.Intn(8) {
	case 0:
		l.revoked = now()
		h.post("lease revoke", "lease/revoke", map[string]any{"ID": fmt.Sprint(l.id)}, &struct{}{})
	case 1, 2: // stay and look on: it has to be there until its time is over
		for !h.stopped() && l.gone == 0 && now() < l.mayEnd {
			h.look(l)
			h.rest(l.ttl / 10)
		}
	}
}

func (h *holder) rest(time_ time.Duration) {
	select {
	case <-h.stopping:
	case <-time.After(time_):
	}
}

func (h *holder) attach(l *lease) {
	op := &operation{ID: h.nextID.Add(1), Kind: "lease put", Client: h.number}
	op.Then = []action{{Verb: put, Key: l.key, Value: valueOf(op.ID, 0), Lease: l.id}}
	err := op.perform(h.caller, h.where(), h.options.timeout)
	if told, ok := err.(*failure); ok && told.HTTP == 404 {
		l.isGone(now(), "a put was answered that there is no such lease")
		op.Error = ""
		op.Outcome = refused
	}
	h.counts.add(op.Kind, op.Outcome, op.Error)
	h.ops = append(h.ops, op)
	l.attached = op.Outcome == done
}

func (h *holder) renew(l *lease) {
	answer := keepAliveAnswer{}
	l.sent(now())
	what, sent := h.post("lease keep-alive", "lease/keepalive", map[string]any{"ID": fmt.Sprint(l.id)}, &answer)
	l.sent(sent)
	switch {
	case what != done || answer.Result == nil:
	case answer.Result.TTL <= 0:
		l.isGone(now(), "a keep-alive was answered that there is no such lease")
	default:
		l.acknowledged(sent)
	}
}

func (h *holder) timeToLive(l *lease) {
	answer := leaseAnswer{}
	what, _ := h.post("lease time to live", "lease/timetolive", map[string]any{"ID": fmt.Sprint(l.id)}, &answer)
	if what == done && answer.TTL < 0 {
		l.isGone(now(), "its time to live was answered -1")
	}
}

func (h *holder) look(l *lease) {
	if !l.attached {
		return
	}
	op := &operation{ID: h.nextID.Add(1), Kind: "lease range", Client: h.number,
		Then: []action{{Verb: get, Key: l.key}}}
	op.perform(h.caller, h.where(), h.options.timeout)
	h.counts.add(op.Kind, op.Outcome, op.Error)
	h.ops = append(h.ops, op)
	if op.Outcome == done && len(op.Results[0].Found) == 0 {
		l.isGone(op.Return, "its key was not found")
	}
}

// awaitEnd waits until none of the leases is there, which nobody renews any
// more, and gives those that outlived all that they may.
func awaitEnd(r *run, limit time.Duration) (problems []string) {
	deadline := now()
	ours := map[int64]bool{}
	for _, l := range r.leases {
		ours[l.id] = true
		if l.mayEnd > deadline {
			deadline = l.mayEnd
		}
	}
	deadline += int64(limit)
	random, caller := rand.New(rand.NewSource(r.options.seed)), newCaller()
	for {
		answer := leasesAnswer{}
		what, err := caller.post(r.endpoints[random.Intn(len(r.endpoints))], "lease/leases", r.options.timeout,
			struct{}{}, &answer)
		left := 0
		for _, l := range answer.Leases {
			if ours[l.ID] {
				left++
			}
		}
		if what == done && left == 0 {
			return nil
		}
		if now() > deadline {
			return []string{fmt.Sprintf("%d leases are there %s after the last could have ended (%v)", left, limit,
				err)}
		}
		time.Sleep(pauseWhenDown)
	}
}

// checkLeases looks for leases that ended while they were promised.
func checkLeases(leases []*lease, events []event) (problems []string) {
	byKey := map[string]*lease{}
	for _, l := range leases {
		byKey[l.key] = l
	}
	for _, e := range events {
		l := byKey[e.Key]
		if l == nil {
			continue
		}
		if e.Deleted {
			l.isGone(e.Told, fmt.Sprintf("a watch told of the end of its key at revision %d", e.Revision))
			l.deletedAt = e.Revision
		} else if e.Lease != l.id {
			problems = append(problems, fmt.Sprintf("key %s has lease %d", e.Key, e.Lease))
		}
	}
	for _, l := range leases {
		if l.gone != 0 && l.gone < l.promised && (l.revoked == 0 || l.gone < l.revoked) {
			problems = append(problems, fmt.Sprintf("lease %d of %s, renewed %d times, ended %.3f s early: %s", l.id,
				l.ttl, l.renewed-1, float64(l.promised-l.gone)/1e9, l.told))
		}
		if l.attached && l.deletedAt == 0 {
			problems = append(problems, fmt.Sprintf("lease %d has ended, and its key is there", l.id))
		}
	}
	return problems
}
