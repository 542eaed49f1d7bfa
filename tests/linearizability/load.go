// SPDX-License-Identifier: Apache-2.0

package main

// The clients: each draws an operation on a group of keys, sends it, and notes
// what became of it. Groups are worn out after a while and replaced by fresh
// ones, which keeps each one's history short enough to be checked.

import (
	"fmt"
	"math/rand"
	"sync"
	"sync/atomic"
	"time"
)

const (
	groupLife     = 400 // operations
	groupDoubts   = 20  // operations of unknown outcome, which cost the checker most
	hurriedOneIn  = 150 // writes that are given up at once: their outcome is unknown without any fault
	pauseWhenDown = 50 * time.Millisecond
)

// A group of keys, and what its keys were last seen to have, so that clients
// compare with something that is often still true.
type group struct {
	number int64
	mu     sync.Mutex
	uses   int
	doubts int
	seen   [groupSize]cell
}

// use counts a use, unless the group is worn out.
func (g *group) use() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.uses++
	return g.uses < groupLife && g.doubts < groupDoubts
}

func (g *group) key(prefix string, i int) string {
	return fmt.Sprintf("%sg/%d/%d", prefix, g.number, i)
}

type run struct {
	options   *options
	prefix    string
	endpoints []string
	counts    *counts
	stopping  chan struct{}
	mu        sync.Mutex
	groups    []*group
	created   int64
	nextID    atomic.Int64
	ops       []*operation // of clients that have ended
	leases    []*lease
	position  func() int64 // up to where all watchers have seen
}

func (r *run) stopped() bool {
	select {
	case <-r.stopping:
		return true
	default:
		return false
	}
}

// pick gives one of the groups in use.
func (r *run) pick(random *rand.Rand) *group {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := random.Intn(len(r.groups))
	if g := r.groups[at]; g != nil && g.use() {
		return g
	}
	r.created++
	r.groups[at] = &group{number: r.created}
	return r.groups[at]
}

// keep adds what a client has done to the history.
func (r *run) keep(ops []*operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, ops...)
}

type client struct {
	*run
	number   int
	random   *rand.Rand
	caller   *caller
	endpoint int
	hops     bool
	ops      []*operation
}

func newClient(r *run, number int) *client {
	return &client{run: r, number: number, random: rand.New(rand.NewSource(r.options.seed + int64(number))),
		caller: newCaller(), endpoint: number % len(r.endpoints), hops: number%2 == 1}
}

func (c *client) where() string {
	if c.hops {
		c.endpoint = c.random.Intn(len(c.endpoints))
	}
	return c.endpoints[c.endpoint]
}

// load runs one client until the end, at most at the rate that was asked for.
func (c *client) load(interval time.Duration) {
	defer func() { c.keep(c.ops) }()
	next := time.Now()
	for !c.stopped() {
		g := c.pick(c.random)
		op := c.draw(g)
		c.do(op)
		g.learn(op)
		if op.Outcome != done {
			time.Sleep(pauseWhenDown)
		}
		next = next.Add(interval)
		if wait := time.Until(next); wait > 0 {
			time.Sleep(wait)
		} else {
			next = time.Now()
		}
	}
}

func (c *client) do(op *operation) {
	timeout := c.options.timeout
	if !op.reads() && c.random.Intn(hurriedOneIn) == 0 {
		timeout = time.Duration(c.random.Intn(int(3 * time.Millisecond)))
	}
	op.perform(c.caller, c.where(), timeout)
	c.counts.add(op.Kind, op.Outcome, op.Error)
	c.ops = append(c.ops, op)
}

func (c *client) operation(kind string, g *group, then ...action) *operation {
	op := &operation{ID: c.nextID.Add(1), Kind: kind, Client: c.number, Then: then}
	if g != nil {
		op.Group = g.number
	}
	for i := range op.Then {
		if op.Then[i].Verb == put {
			filling := c.random.Intn(40)
			if c.random.Intn(50) == 0 {
				filling = 2000
			}
			op.Then[i].Value = valueOf(op.ID, filling)
		}
	}
	return op
}

// draw makes up an operation on a group.
func (c *client) draw(g *group) *operation {
	one, other := c.random.Intn(groupSize), c.random.Intn(groupSize-1)
	if other >= one {
		other++
	}
	key, second := g.key(c.prefix, one), g.key(c.prefix, other)
	first := g.key(c.prefix, 0)
	all := action{Verb: get, Key: first, End: afterPrefix(g.key(c.prefix, groupSize-1))}
	prev := c.random.Intn(4) == 0
	g.mu.Lock()
	seen := g.seen[one]
	g.mu.Unlock()
	switch chance := c.random.Intn(100); {
	case chance < 22:
		return c.operation("range", g, action{Verb: get, Key: key})
	case chance < 32:
		return c.operation("range of group", g, all)
	case chance < 54:
		return c.operation("put", g, action{Verb: put, Key: key, Prev: prev})
	case chance < 61:
		return c.operation("delete", g, action{Verb: del, Key: key, Prev: prev})
	case chance < 76:
		op := c.operation("swap by revision", g, action{Verb: put, Key: key})
		op.Compares = []compare{{Key: key, Target: "MOD", Result: "EQUAL", Number: seen.Mod}}
		op.Else = []action{{Verb: get, Key: key}}
		return op
	case chance < 84:
		op := c.operation("swap by value", g, action{Verb: put, Key: key, Prev: prev})
		op.Compares = []compare{{Key: key, Target: "VALUE", Result: "EQUAL", Value: seen.Value}}
		op.Else = []action{all}
		return op
	case chance < 88:
		op := c.operation("create", g, action{Verb: put, Key: key})
		op.Compares = []compare{{Key: key, Target: "VERSION", Result: "EQUAL"}}
		op.Else = []action{{Verb: get, Key: key}}
		return op
	case chance < 95:
		return c.operation("put two", g, action{Verb: get, Key: key}, action{Verb: put, Key: key},
			action{Verb: put, Key: second}, all)
	default:
		op := c.operation("move", g, action{Verb: del, Key: key, Prev: prev}, action{Verb: put, Key: second})
		op.Compares = []compare{{Key: key, Target: "MOD", Result: "EQUAL", Number: seen.Mod},
			{Key: second, Target: "CREATE", Result: "GREATER", Number: 0}}
		op.Else = []action{all}
		return op
	}
}

// learn remembers what an answer tells of the group's keys.
func (g *group) learn(op *operation) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if op.Outcome == unknown && !op.reads() {
		g.doubts++
	}
	if op.Outcome != done {
		return
	}
	for i, a := range op.branch() {
		if a.Verb == put {
			g.seen[indexOf(a.Key)] = cell{Value: a.Value, Mod: op.Revision}
		}
		if a.Verb == get && len(op.branch()) == 1 {
			for _, f := range op.Results[i].Found {
				g.seen[indexOf(f.Key)] = f.cell
			}
		}
	}
}

// compact drops history that all watchers have seen, now and then. A node that
// rebuilds itself has to get along with that.
func (r *run) compact() {
	random := rand.New(rand.NewSource(r.options.seed))
	caller := newCaller()
	for {
		select {
		case <-r.stopping:
			return
		case <-time.After(r.options.compact):
		}
		revision := r.position() - compactDistance
		if revision <= 1 {
			continue
		}
		var answer struct{}
		what, err := caller.post(r.endpoints[random.Intn(len(r.endpoints))], "kv/compaction", r.options.timeout,
			map[string]any{"revision": fmt.Sprint(revision)}, &answer)
		if told, ok := err.(*failure); ok && what == refused && told.Code == codeOutOfRange {
			what, err = done, nil // compacted already, by one whose answer got lost
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		r.counts.add("compaction", what, text)
	}
}

const (
	compactDistance = 500 // revisions
	codeOutOfRange  = 11
)
