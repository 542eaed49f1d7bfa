// SPDX-License-Identifier: Apache-2.0

package main

// The checks, checked: a history that is right passes them all, and each way to
// spoil it is found by the check that is there for it.

import (
	"fmt"
	"strings"
	"time"
)

const second = int64(time.Second)

// A past is all that the checks look at.
type past struct {
	ops     []*operation
	told    [2][]event // to each watcher
	reached [2]int64   // by each
	leases  []*lease
	lists   []list
}

func acknowledged(id, group, from, revision int64, kind string, succeeded bool, results ...result) *operation {
	return &operation{ID: id, Kind: kind, Group: group, Call: from * second, Return: (from + 1) * second,
		Revision: revision, Succeeded: succeeded, Results: results}
}

func doubtful(id, group, from int64, kind string, then ...action) *operation {
	return &operation{ID: id, Kind: kind, Group: group, Call: from * second, Return: never, Outcome: unknown,
		Succeeded: true, Then: then}
}

func (op *operation) does(then ...action) *operation { op.Then = then; return op }

func puts(key string, id int64) action { return action{Verb: put, Key: key, Value: valueOf(id, 0)} }

func gets(key string) action { return action{Verb: get, Key: key} }

func saw(key string, c cell) result { return result{Found: []found{{key, c}}} }

func told(at, revision int64, key string, what, before cell) event {
	return event{Key: key, Now: what, Prev: before, Revision: revision, Told: at * second, Deleted: what.Version == 0}
}

// good is a history of two groups of keys, a and b, and a lease: revisions 2 to
// 10. Of the two writes without answer, the first has happened.
func good() *past {
	a1, a4 := cell{"1.", 2, 2, 1}, cell{"4.", 2, 4, 2}
	b2, b8 := cell{"2.", 3, 3, 1}, cell{"8.", 3, 7, 2}
	two1, two2 := cell{"6.", 5, 5, 1}, cell{"6.", 5, 5, 1}
	held, end := cell{"9.", 8, 8, 1}, cell{"12.", 10, 10, 1}
	swap := func(op *operation, id int64) *operation {
		op.Compares = []compare{{Key: "a0", Target: "MOD", Result: "EQUAL", Number: 2}}
		op.Then, op.Else = []action{puts("a0", id)}, []action{gets("a0")}
		return op
	}
	attach := puts("l/1", 9)
	attach.Lease = 1
	p := &past{ops: []*operation{
		acknowledged(1, 1, 1, 2, "put", true, result{}).does(puts("a0", 1)),
		acknowledged(2, 2, 3, 3, "put", true, result{}).does(puts("b0", 2)),
		acknowledged(3, 1, 5, 3, "range", true, saw("a0", a1)).does(gets("a0")),
		swap(acknowledged(4, 1, 7, 4, "swap", true, result{}), 4),
		swap(acknowledged(5, 1, 9, 4, "swap", false, saw("a0", a4)), 5),
		acknowledged(6, 1, 11, 5, "put two", true, result{}, result{}).does(puts("a1", 6), puts("a2", 6)),
		acknowledged(7, 1, 13, 6, "delete", true, result{Deleted: 1}).does(action{Verb: del, Key: "a1"}),
		doubtful(8, 2, 15, "put", puts("b0", 8)),
		acknowledged(9, 0, 17, 8, "lease put", true, result{}).does(attach),
		acknowledged(10, 2, 19, 8, "range", true, saw("b0", b8)).does(gets("b0")),
		doubtful(11, 2, 21, "put", puts("b0", 11)),
		acknowledged(12, 0, 25, 10, "put", true, result{}).does(puts("end", 12)),
	}}
	events := []event{
		told(1, 2, "a0", a1, cell{}), told(4, 3, "b0", b2, cell{}), told(8, 4, "a0", a4, a1),
		told(12, 5, "a1", two1, cell{}), told(12, 5, "a2", two2, cell{}), told(14, 6, "a1", cell{Mod: 6}, two1),
		told(16, 7, "b0", b8, b2), told(18, 8, "l/1", held, cell{}), told(24, 9, "l/1", cell{Mod: 9}, held),
		told(26, 10, "end", end, cell{}),
	}
	events[7].Lease = 1
	for i := range p.told {
		p.told[i], p.reached[i] = append([]event{}, events...), 10
	}
	p.leases = []*lease{{id: 1, ttl: 3 * time.Second, key: "l/1", attached: true, promised: 23 * second, renewed: 2}}
	p.lists = []list{{"one", 10, map[string]cell{"a0": a4, "a2": two2, "b0": b8, "end": end}},
		{"two", 4, map[string]cell{"a0": a4, "b0": b2}}}
	return p
}

// failing names the checks that a history does not pass.
func (p *past) failing() map[string][]string {
	isLease := func(key string) bool { return strings.HasPrefix(key, "l/") }
	shared, watchers := &tale{}, []*watcher{}
	for i, events := range p.told {
		w := &watcher{name: fmt.Sprintf("watcher %d", i), told: shared, position: p.reached[i]}
		for _, e := range events {
			w.hear(e)
		}
		watchers = append(watchers, w)
	}
	events := shared.upTo(10)
	agree := checkWatchersAgree(watchers, 10)
	state, exact := checkEvents(p.ops, events, 2, 10, isLease)
	found := map[string][]string{"watchers": agree, "events": exact, "groups": checkGroups(p.ops, "", time.Minute),
		"revisions": checkRevisions(p.ops, events), "lists": checkLists(p.lists, events, state),
		"leases": checkLeases(p.leases, events)}
	for name, problems := range found {
		if len(problems) == 0 {
			delete(found, name)
		}
	}
	return found
}

func (p *past) op(id int64) *operation {
	for _, op := range p.ops {
		if op.ID == id {
			return op
		}
	}
	return nil
}

// spoilEvents changes what all watchers were told.
func (p *past) spoilEvents(spoil func([]event) []event) {
	for i := range p.told {
		p.told[i] = spoil(p.told[i])
	}
}

func without(events []event, at int) []event { return append(events[:at:at], events[at+1:]...) }

var spoilings = []struct {
	name  string
	check string // that has to find it
	spoil func(*past)
}{
	{"a read is stale", "groups", func(p *past) { p.op(10).Results = []result{saw("b0", cell{"2.", 3, 3, 1})} }},
	{"a read is stale and says so", "revisions", func(p *past) { p.op(3).Revision = 2 }},
	{"a read lacks what a watch has told", "groups", func(p *past) {
		*p.op(10) = *acknowledged(10, 2, 19, 6, "range", true, saw("b0", cell{"2.", 3, 3, 1})).does(gets("b0"))
	}},
	{"a read sees half of a transaction", "groups", func(p *past) {
		p.ops = append(p.ops, acknowledged(13, 1, 12, 5, "range of group", true,
			result{Found: []found{{"a0", cell{"4.", 2, 4, 2}}, {"a1", cell{"6.", 5, 5, 1}}}}).
			does(action{Verb: get, Key: "a0", End: "a3"}))
	}},
	{"an acknowledged write is lost for reads", "groups", func(p *past) { p.op(3).Results = []result{{}} }},
	{"an acknowledged write is lost for all", "events", func(p *past) {
		p.ops = append(p.ops, acknowledged(13, 2, 20, 9, "put", true, result{}).does(puts("b1", 13)))
	}},
	{"two swaps of one revision succeed", "groups", func(p *past) {
		p.op(5).Succeeded, p.op(5).Results = true, []result{{}}
	}},
	{"a swap that holds fails", "groups", func(p *past) {
		p.op(4).Succeeded, p.op(4).Results = false, []result{saw("a0", cell{"1.", 2, 2, 1})}
	}},
	{"an unanswered write that never happened is read", "groups", func(p *past) {
		p.ops = append(p.ops, acknowledged(13, 2, 22, 8, "range", true, saw("b0", cell{"11.", 3, 9, 3})).
			does(gets("b0")))
	}},
	{"an unanswered write is undone", "groups", func(p *past) {
		p.ops = append(p.ops, acknowledged(13, 2, 23, 8, "range", true, saw("b0", cell{"2.", 3, 3, 1})).
			does(gets("b0")))
	}},
	{"a write happens twice", "events", func(p *past) {
		p.spoilEvents(func(events []event) []event {
			events[8] = told(24, 9, "b0", cell{"8.", 3, 9, 3}, cell{"8.", 3, 7, 2})
			return events
		})
	}},
	{"a refused write happens", "events", func(p *past) { p.op(8).Outcome = refused }},
	{"a value comes from nowhere", "events", func(p *past) {
		p.spoilEvents(func(events []event) []event { events[6].Now.Value = "99."; return events })
	}},
	{"a deletion comes from nowhere", "events", func(p *past) {
		p.spoilEvents(func(events []event) []event {
			events[8] = told(24, 9, "b0", cell{Mod: 9}, cell{"8.", 3, 7, 2})
			return events
		})
	}},
	{"two writes have one revision", "events", func(p *past) { p.op(6).Revision = 4 }},
	{"revisions run against time", "revisions", func(p *past) {
		// One is of group 1, the other of group 2: only together they are wrong.
		p.op(2).Call, p.op(2).Return = 0, second-1
	}},
	{"one watcher misses an event", "watchers", func(p *past) { p.told[1] = without(p.told[1], 3) }},
	{"one watcher is told in another order", "watchers", func(p *past) {
		e := p.told[1]
		e[1], e[2] = e[2], e[1]
	}},
	{"one watcher is told another value", "watchers", func(p *past) { p.told[0][2].Now.Value = "5." }},
	{"one watcher stays behind", "watchers", func(p *past) { p.reached[1] = 9 }},
	{"all watchers miss an event", "events", func(p *past) {
		p.spoilEvents(func(events []event) []event { return without(events, 2) })
	}},
	{"all watchers are told half of a transaction", "events", func(p *past) {
		p.spoilEvents(func(events []event) []event { return without(events, 4) })
	}},
	{"all watchers are told of more than was written", "events", func(p *past) {
		p.spoilEvents(func(events []event) []event {
			extra := told(4, 3, "b1", cell{"2.", 3, 3, 1}, cell{})
			return append(events[:2:2], append([]event{extra}, events[2:]...)...)
		})
	}},
	{"the value before is wrong", "events", func(p *past) {
		p.spoilEvents(func(events []event) []event { events[2].Prev.Version = 2; return events })
	}},
	{"the version is wrong", "events", func(p *past) {
		p.spoilEvents(func(events []event) []event { events[2].Now.Version = 3; return events })
	}},
	{"a lease ends early", "leases", func(p *past) { p.leases[0].promised = 25 * second }},
	{"a lease is reported gone early", "leases", func(p *past) { p.leases[0].isGone(22*second, "so") }},
	{"the key of a lease that ended stays", "leases", func(p *past) {
		p.spoilEvents(func(events []event) []event { return without(events, 8) })
	}},
	{"a server lists another value", "lists", func(p *past) { p.lists[0].cells["a0"] = cell{"5.", 2, 4, 2} }},
	{"a server lists a key too few", "lists", func(p *past) { delete(p.lists[1].cells, "b0") }},
	{"a server lists a key too many", "lists", func(p *past) { p.lists[1].cells["a1"] = cell{"6.", 5, 5, 1} }},
}

func checkChecks() int {
	passed, failed := 0, 0
	say := func(right bool, name string, found map[string][]string) {
		if right {
			passed++
			return
		}
		failed++
		fmt.Printf("FAILED: %s: found %v\n", name, found)
	}
	found := good().failing()
	say(len(found) == 0, "a history that is right", found)
	for _, s := range spoilings {
		p := good()
		s.spoil(p)
		found := p.failing()
		say(len(found[s.check]) > 0, s.name, found)
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		return 1
	}
	return 0
}
