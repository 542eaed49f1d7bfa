// SPDX-License-Identifier: Apache-2.0

package main

// In the end every server lists all keys, as they are and as they were at some
// revisions of the past: that must be what the events add up to.

import (
	"fmt"
	"sort"
	"time"
)

const (
	oldLists  = 4 // of each server, beside the newest
	listPage  = 2000
	listTries = 100
)

type list struct {
	endpoint string
	revision int64
	cells    map[string]cell
}

// list asks every server. A revision may be compacted: the lowest is one that
// cannot be yet.
func (r *run) list(c *client, start, last int64) (lists []list, problems []string) {
	if last == never {
		return nil, []string{"there is no last revision"}
	}
	lowest := last - compactDistance
	if lowest < start {
		lowest = start
	}
	for _, endpoint := range r.endpoints {
		revisions := []int64{last}
		for i := 0; i < oldLists; i++ {
			revisions = append(revisions, lowest+c.random.Int63n(last-lowest+1))
		}
		for _, revision := range revisions {
			cells, err := r.listAt(c, endpoint, revision)
			if err != nil {
				problems = append(problems, fmt.Sprintf("%s at %d: %v", endpoint, revision, err))
				continue
			}
			lists = append(lists, list{endpoint, revision, cells})
		}
	}
	return lists, problems
}

func (r *run) listAt(c *client, endpoint string, revision int64) (map[string]cell, error) {
	cells, key := map[string]cell{}, r.prefix
	for tries := 0; ; {
		answer := rangeAnswer{}
		what, err := c.caller.post(endpoint, "kv/range", r.options.timeout, map[string]any{
			"key": []byte(key), "range_end": []byte(afterPrefix(r.prefix)), "revision": fmt.Sprint(revision),
			"limit": fmt.Sprint(listPage)}, &answer)
		if what == refused {
			return nil, err
		}
		if what != done {
			if tries++; tries == listTries {
				return nil, err
			}
			time.Sleep(pauseWhenDown)
			continue
		}
		for _, kv := range answer.Kvs {
			cells[string(kv.Key)] = cellOf(kv)
			key = string(kv.Key) + "\x00"
		}
		if !answer.More {
			return cells, nil
		}
	}
}

// checkLists replays the events up to the revision of each list.
func checkLists(lists []list, events []event, end map[string]cell) (problems []string) {
	sort.Slice(lists, func(i, j int) bool { return lists[i].revision < lists[j].revision })
	state, next := map[string]cell{}, 0
	advance := func(revision int64) {
		for ; next < len(events) && events[next].Revision <= revision; next++ {
			if e := events[next]; e.Deleted {
				delete(state, e.Key)
			} else {
				state[e.Key] = e.Now
			}
		}
	}
	differ := func(what string, a, b map[string]cell) {
		for key := range a {
			if a[key] != b[key] {
				problems = append(problems, fmt.Sprintf("%s: %s is %.80s, by the events %.80s", what, key,
					fmt.Sprintf("%+v", a[key]), fmt.Sprintf("%+v", b[key])))
				return
			}
		}
		if len(a) != len(b) {
			problems = append(problems, fmt.Sprintf("%s: %d keys, %d by the events", what, len(a), len(b)))
		}
	}
	for _, l := range lists {
		advance(l.revision)
		differ(fmt.Sprintf("%s at %d", l.endpoint, l.revision), l.cells, state)
	}
	advance(never)
	differ("the end", end, state)
	return problems
}
