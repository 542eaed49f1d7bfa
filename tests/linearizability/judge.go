// SPDX-License-Identifier: Apache-2.0

package main

// What came out: every check with its result, how often which kind of operation
// came out how, and the history of a run in which a check failed.

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"
)

// counts is how often which kind of operation came out how.
type counts struct {
	mu     sync.Mutex
	kinds  map[string]*[4]int
	errors map[string]int
}

func (c *counts) add(kind string, what outcome, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kinds[kind] == nil {
		c.kinds[kind] = &[4]int{}
	}
	c.kinds[kind][what]++
	if what == refused && text != "" && !strings.Contains(text, "too many requests") {
		c.errors[kind+": "+text]++
	}
}

func (c *counts) print() {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := []string{}
	for name := range c.kinds {
		names = append(names, name)
	}
	sort.Strings(names)
	fmt.Printf("%-20s %9s %9s %9s %9s\n", "", done, refused, notSent, unknown)
	for _, name := range names {
		n := c.kinds[name]
		fmt.Printf("%-20s %9d %9d %9d %9d\n", name, n[done], n[refused], n[notSent], n[unknown])
	}
}

func (c *counts) total(what outcome) (total int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.kinds {
		total += n[what]
	}
	return total
}

type verdicts struct {
	passed, failed int
}

func (v *verdicts) add(name string, problems []string) {
	if len(problems) == 0 {
		v.passed++
		fmt.Printf("passed: %s\n", name)
		return
	}
	v.failed++
	fmt.Printf("FAILED: %s: %d problems\n", name, len(problems))
	for i, problem := range problems {
		if i == 10 {
			fmt.Println("  ...")
			break
		}
		fmt.Printf("  %s\n", problem)
	}
}

// judge makes all checks and prints what came out.
func (r *run) judge(owner *client, watchers []*watcher, start int64, end *operation, late []string) int {
	v := &verdicts{}
	last := int64(never)
	if end != nil {
		last = end.Revision
	} else {
		v.add("a last write", []string{"no server took one"})
	}
	fmt.Fprintf(os.Stderr, "checking\n")
	lists, listProblems := r.list(owner, start, last)
	r.keep(owner.ops)
	events := watchers[0].told.upTo(last)
	v.add(fmt.Sprintf("%d watchers, resumed %d times, were told the same %d events", len(watchers), resumed(watchers),
		len(events)), checkWatchersAgree(watchers, last))
	state, problems := checkEvents(r.ops, events, start, last, func(key string) bool {
		return strings.HasPrefix(key, r.prefix+"l/")
	})
	v.add(fmt.Sprintf("events are exactly the writes, revisions %d to %d", start, last), problems)
	v.add(fmt.Sprintf("%d groups of keys are linearizable", r.created), checkGroups(r.ops, r.options.out, time.Minute))
	v.add("revisions follow real time", checkRevisions(r.ops, events))
	v.add(fmt.Sprintf("%d lists, at old revisions too, are what the events make", len(lists)),
		append(listProblems, checkLists(lists, events, state)...))
	v.add(fmt.Sprintf("%d leases lived as long as promised", len(r.leases)), checkLeases(r.leases, events))
	v.add("leases that nobody renewed ended", late)
	v.add("nothing was refused that is allowed", r.refusals())
	seen := 0
	for _, op := range r.ops {
		if op.Seen {
			seen++
		}
	}
	r.counts.print()
	fmt.Printf("%d writes of unknown outcome happened\n", seen)
	if v.failed > 0 && r.options.out != "" {
		r.save(events)
	}
	fmt.Printf("%d passed, %d failed\n", v.passed, v.failed)
	if v.failed > 0 {
		return 1
	}
	return 0
}

func resumed(watchers []*watcher) (n int) {
	for _, w := range watchers {
		n += w.resumed - 1
	}
	return n
}

func (r *run) refusals() (problems []string) {
	for text, n := range r.counts.errors {
		problems = append(problems, fmt.Sprintf("%d times %s", n, text))
	}
	return problems
}

// save writes the history down for whoever has to find out.
func (r *run) save(events []event) {
	for name, what := range map[string]any{"operations.json": r.ops, "events.json": events} {
		err := os.MkdirAll(r.options.out, 0o755)
		var file *os.File
		if err == nil {
			file, err = os.Create(filepath.Join(r.options.out, name))
		}
		if err == nil {
			err = json.NewEncoder(file).Encode(what)
			file.Close()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	fmt.Printf("the history is in %s\n", r.options.out)
}
