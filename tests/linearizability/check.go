// SPDX-License-Identifier: Apache-2.0

package main

// Checks over the whole history, beside porcupine's of each group: that the
// events are exactly the writes, and that revisions follow real time.

import (
	"fmt"
	"sort"
)

// What the events must be like: those of one revision after the other.
type replay struct {
	state    map[string]cell
	byID     map[int64]*operation
	acked    map[int64]*operation    // by revision
	deletes  map[string][]*operation // plain deletions of unknown outcome, by key, as they were called
	leaseKey func(string) bool
	problems []string
}

func (p *replay) complain(format string, details ...any) {
	p.problems = append(p.problems, fmt.Sprintf(format, details...))
}

// checkEvents finds for every event the write that made it, and for every
// acknowledged write its events. Writes of unknown outcome that are found have
// their revision afterwards and are marked as seen. The events of all
// revisions from first on must be there. It gives what every key has in the end.
func checkEvents(ops []*operation, events []event, first, last int64,
	leaseKey func(string) bool) (map[string]cell, []string) {
	p := &replay{state: map[string]cell{}, byID: map[int64]*operation{}, acked: map[int64]*operation{},
		deletes: map[string][]*operation{}, leaseKey: leaseKey}
	sort.Slice(ops, func(i, j int) bool { return ops[i].Call < ops[j].Call })
	for _, op := range ops {
		p.byID[op.ID] = op
		if op.Outcome == done && op.changes() {
			if other := p.acked[op.Revision]; other != nil {
				p.complain("%v and %v have one revision", other, op)
			}
			p.acked[op.Revision] = op
		}
		if op.Outcome == unknown && op.Kind == "delete" {
			p.deletes[op.Then[0].Key] = append(p.deletes[op.Then[0].Key], op)
		}
	}
	found, revision := map[int64]bool{}, first-1
	for from := 0; from < len(events); {
		to := from
		for to < len(events) && events[to].Revision == events[from].Revision {
			to++
		}
		if events[from].Revision != revision+1 {
			p.complain("after revision %d the watches told of %d", revision, events[from].Revision)
		}
		revision = events[from].Revision
		found[revision] = true
		p.explain(revision, events[from:to])
		p.follow(events[from:to])
		from = to
	}
	for revision, op := range p.acked {
		if !found[revision] && revision <= last {
			p.complain("acknowledged and not told by any watch: %v", op)
		}
	}
	return p.state, p.problems
}

// explain finds the operation that made the events of a revision.
func (p *replay) explain(revision int64, events []event) {
	op := p.acked[revision]
	if op == nil {
		op = p.doubtful(events)
		if op == nil {
			return
		}
		op.Seen, op.Revision, op.Succeeded, op.Return = true, revision, true, events[0].Told
	}
	told := map[string]event{}
	for _, e := range events {
		told[e.Key] = e
	}
	for _, a := range op.branch() {
		if a.Verb == get {
			continue
		}
		e, there := told[a.Key]
		delete(told, a.Key)
		absent := p.state[a.Key].Version == 0
		switch {
		case a.Verb == put && !(there && !e.Deleted && e.Now.Value == a.Value && e.Lease == a.Lease):
			p.complain("revision %d has not the put of %s that made it: %v", revision, a.Key, op)
		case a.Verb == del && there == absent || a.Verb == del && there && !e.Deleted:
			p.complain("revision %d has not the deletion of %s that made it: %v", revision, a.Key, op)
		}
	}
	if len(told) > 0 {
		p.complain("revision %d has more events than what made it: %v", revision, op)
	}
}

// doubtful finds the operation of unknown outcome that made events, by the
// values that it put. Deletions have no value: the one that was called first is
// taken, which is as good as any other.
func (p *replay) doubtful(events []event) *operation {
	leases := 0
	for _, e := range events {
		if !e.Deleted {
			op := p.byID[writerOf(e.Now.Value)]
			switch {
			case op == nil:
				p.complain("at %d %s has a value that nobody wrote: %.40q", e.Revision, e.Key, e.Now.Value)
			case op.Outcome != unknown || op.Seen:
				p.complain("at %d %s was written once more: %v", e.Revision, e.Key, op)
			default:
				return op
			}
			return nil
		}
		if p.leaseKey(e.Key) {
			leases++
		}
	}
	if leases == len(events) {
		return nil // leases that ended: several may end at one revision
	}
	e := events[0]
	waiting := p.deletes[e.Key]
	if len(waiting) == 0 || waiting[0].Call > e.Told {
		p.complain("at %d %s was deleted by nobody", e.Revision, e.Key)
		return nil
	}
	p.deletes[e.Key] = waiting[1:]
	return waiting[0]
}

// follow checks that events say what comes of the state before, and what that was.
func (p *replay) follow(events []event) {
	for _, e := range events {
		before := p.state[e.Key]
		if e.Prev != before {
			p.complain("at %d %s had %.60v before, the watches told of %.60v", e.Revision, e.Key,
				fmt.Sprintf("%+v", before), fmt.Sprintf("%+v", e.Prev))
		}
		after := cell{e.Now.Value, before.Create, e.Revision, before.Version + 1}
		if before.Version == 0 {
			after.Create = e.Revision
		}
		if e.Deleted {
			delete(p.state, e.Key)
			if before.Version == 0 {
				p.complain("at %d %s was deleted, which was not there", e.Revision, e.Key)
			}
			continue
		}
		p.state[e.Key] = after
		if e.Now != after {
			p.complain("at %d %s is %.60v for the watches, not %.60v", e.Revision, e.Key, fmt.Sprintf("%+v", e.Now),
				fmt.Sprintf("%+v", after))
		}
	}
}

// checkRevisions checks that revisions follow real time: what begins after
// something was acknowledged, or told by a watch, has a revision not below
// that, and above it if it changes something.
func checkRevisions(ops []*operation, events []event) (problems []string) {
	type known struct {
		at, revision int64
		by           string
	}
	points, begun := []known{}, []*operation{}
	for _, op := range ops {
		if op.Outcome == done || op.Seen {
			begun = append(begun, op)
		}
		if op.Outcome == done {
			points = append(points, known{op.Return, op.Revision, op.String()})
		}
	}
	for _, e := range events {
		points = append(points, known{e.Told, e.Revision, "a watch"})
	}
	sort.Slice(points, func(i, j int) bool { return points[i].at < points[j].at })
	sort.Slice(begun, func(i, j int) bool { return begun[i].Call < begun[j].Call })
	highest, next := known{}, 0
	for _, op := range begun {
		for next < len(points) && points[next].at < op.Call {
			if points[next].revision > highest.revision {
				highest = points[next]
			}
			next++
		}
		newer := op.changes()
		if op.Revision < highest.revision || newer && op.Revision == highest.revision {
			problems = append(problems, fmt.Sprintf("%v began after revision %d was known from %s", op,
				highest.revision, highest.by))
		}
	}
	return problems
}
