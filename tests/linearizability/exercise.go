// SPDX-License-Identifier: Apache-2.0

package main

// A run from its first request to its last: clients, holders of leases and
// watchers side by side, then a wait for what has to come to an end by itself,
// and one last write that every watcher must be told of.

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"sync"
	"time"
)

// progress says how it goes, every few seconds.
func (r *run) progress() {
	for {
		select {
		case <-r.stopping:
			return
		case <-time.After(5 * time.Second):
			fmt.Fprintf(os.Stderr, "%3.0f s: %d done, %d unknown, %d not sent; revision %d told\n",
				time.Since(epoch).Seconds(), r.counts.total(done), r.counts.total(unknown),
				r.counts.total(notSent), r.position())
		}
	}
}

// until waits for the end of the load.
func (o *options) until() {
	if o.stopFile == "" {
		time.Sleep(time.Duration(o.seconds) * time.Second)
		return
	}
	for {
		if _, err := os.Stat(o.stopFile); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// insist repeats an operation until it is answered, and gives nil when the time
// is over. Each try is an operation of its own.
func (c *client) insist(limit time.Duration, make func() *operation) *operation {
	deadline := time.Now().Add(limit)
	for time.Now().Before(deadline) {
		op := make()
		op.perform(c.caller, c.where(), c.options.timeout)
		c.counts.add(op.Kind, op.Outcome, op.Error)
		c.ops = append(c.ops, op)
		if op.Outcome == done {
			return op
		}
		time.Sleep(pauseWhenDown)
	}
	return nil
}

func (r *run) newWatchers(start int64) (watchers []*watcher) {
	told := &tale{}
	for i := 0; i < r.options.watchers*len(r.endpoints); i++ {
		at := i % len(r.endpoints)
		watchers = append(watchers, &watcher{name: fmt.Sprintf("watcher %d", i), endpoints: r.endpoints, at: at,
			stays: i < len(r.endpoints), random: rand.New(rand.NewSource(r.options.seed + int64(i))), key: r.prefix,
			end: afterPrefix(r.prefix), counts: r.counts, position: start - 1, told: told})
	}
	return watchers
}

// exercise runs the whole load and all checks.
func exercise(o *options, endpoints []string) int {
	r := &run{options: o, prefix: fmt.Sprintf("lin/%d/", o.seed), endpoints: endpoints, stopping: make(chan struct{}),
		counts: &counts{kinds: map[string]*[4]int{}, errors: map[string]int{}},
		groups: make([]*group, o.keys/groupSize)}
	owner := newClient(r, 0)
	owner.hops = true
	begin := owner.insist(o.settle, func() *operation {
		return owner.operation("range", nil, action{Verb: get, Key: r.prefix, End: afterPrefix(r.prefix)})
	})
	if begin == nil || len(begin.Results[0].Found) > 0 {
		fmt.Println("no server answers, or the seed was used before")
		fmt.Println("0 passed, 1 failed")
		return 1
	}
	start := begin.Revision + 1
	watchers := r.newWatchers(start)
	r.position = func() int64 {
		lowest := watchers[0].reached()
		for _, w := range watchers[1:] {
			if p := w.reached(); p < lowest {
				lowest = p
			}
		}
		return lowest
	}

	watching, stopWatching := context.WithCancel(context.Background())
	var loading, watched sync.WaitGroup
	background := func(group *sync.WaitGroup, work func()) {
		group.Add(1)
		go func() { defer group.Done(); work() }()
	}
	for _, w := range watchers {
		w := w
		background(&watched, func() { w.follow(watching) })
	}
	for i := 1; i <= o.clients+o.holders; i++ {
		c := newClient(r, i)
		if i <= o.clients {
			background(&loading, func() { c.load(time.Duration(o.clients) * time.Second / time.Duration(o.rate)) })
		} else {
			background(&loading, (&holder{c}).hold)
		}
	}
	if o.compact > 0 {
		background(&loading, r.compact)
	}
	background(&loading, r.progress)
	o.until()
	close(r.stopping)
	loading.Wait()

	fmt.Fprintf(os.Stderr, "the load has ended: %d leases to end\n", len(r.leases))
	late := awaitEnd(r, o.settle)
	end := owner.insist(o.settle, func() *operation {
		return owner.operation("put", nil, action{Verb: put, Key: r.prefix + "end"})
	})
	if end != nil {
		for deadline := time.Now().Add(o.settle); r.position() < end.Revision && time.Now().Before(deadline); {
			time.Sleep(20 * time.Millisecond)
		}
	}
	stopWatching()
	watched.Wait()
	return r.judge(owner, watchers, start, end, late)
}
