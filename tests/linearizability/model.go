// SPDX-License-Identifier: Apache-2.0

package main

// The model of one group of keys, for porcupine: what every key has, with its
// revisions. Groups are independent, so each is checked by itself. Revisions say
// in which order the changes of a group came, and between which of them a read
// took place; porcupine finds whether that order agrees with real time and with
// every answer. Without them it would have to try all orders of what overlaps,
// and a minute of that is a lot.

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

const groupSize = 3

type groupState struct {
	Revision int64 // of the last change
	Cells    [groupSize]cell
}

// indexOf is the place of a key in its group: the last character says it.
func indexOf(key string) int { return int(key[len(key)-1] - '0') }

func holds(c compare, have cell) bool {
	order := 0
	number := map[string]int64{"MOD": have.Mod, "CREATE": have.Create, "VERSION": have.Version}[c.Target]
	switch {
	case c.Target == "VALUE" && have.Version == 0:
		return false // not even NOT_EQUAL holds on a key that is not there
	case c.Target == "VALUE":
		order = strings.Compare(have.Value, c.Value)
	case number < c.Number:
		order = -1
	case number > c.Number:
		order = 1
	}
	switch c.Result {
	case "EQUAL":
		return order == 0
	case "NOT_EQUAL":
		return order != 0
	case "GREATER":
		return order > 0
	}
	return order < 0
}

// apply carries out one action at a revision on the cells, and says whether it
// changed anything and whether the answer is the right one; want is nil when
// there was no answer.
func apply(cells *[groupSize]cell, a action, revision int64, want *result) (changed, right bool) {
	at := indexOf(a.Key)
	first, last := at, at
	if a.End != "" {
		first, last = 0, groupSize-1
	}
	right = true
	expect := func(i int) {
		if want != nil && want.at(a.Key[:len(a.Key)-1]+string(rune('0'+i))) != cells[i] {
			right = false
		}
	}
	switch a.Verb {
	case get:
		for i := first; i <= last; i++ {
			expect(i)
		}
	case put:
		if a.Prev {
			expect(at)
		}
		have := &cells[at]
		if have.Version == 0 {
			have.Create = revision
		}
		have.Value, have.Mod, have.Version = a.Value, revision, have.Version+1
		changed = true
	case del:
		deleted := int64(0)
		for i := first; i <= last; i++ {
			if a.Prev {
				expect(i)
			}
			if cells[i].Version > 0 {
				deleted++
			}
			cells[i] = cell{}
		}
		changed = deleted > 0
		right = right && (want == nil || want.Deleted == deleted)
	}
	return changed, right
}

// step says whether the operation can be the next in this state. An operation
// that has no answer is here only when a watch told that it happened, and at
// which revision.
func step(state, input, _ any) (bool, any) {
	s, op := state.(groupState), input.(*operation)
	if op.after != s.Revision {
		return false, s
	}
	succeeded := true
	for _, c := range op.Compares {
		succeeded = succeeded && holds(c, s.Cells[indexOf(c.Key)])
	}
	if succeeded != op.Succeeded {
		return false, s
	}
	changes := false
	for i, a := range op.branch() {
		var want *result
		if op.Outcome == done {
			want = &op.Results[i]
		}
		changed, right := apply(&s.Cells, a, op.Revision, want)
		if !right {
			return false, s
		}
		changes = changes || changed
	}
	if changes {
		s.Revision = op.Revision
	}
	return changes == op.changes(), s
}

var model = porcupine.Model{
	Init: func() any { return groupState{} },
	Step: step,
	DescribeOperation: func(input, _ any) string {
		op := input.(*operation)
		return fmt.Sprintf("#%d %s r%d %v %v -> %v %v", op.ID, op.Kind, op.Revision, op.Compares, op.branch(),
			op.Succeeded, op.Results)
	},
	DescribeState: func(state any) string { return fmt.Sprintf("%+v", state) },
}

// checkGroups gives every group to porcupine. Operations that did not happen are
// left out: reads without an answer, and writes that nobody has ever seen.
func checkGroups(ops []*operation, out string, timeout time.Duration) (problems []string) {
	groups := map[int64][]porcupine.Operation{}
	for _, op := range ops {
		if op.Group == 0 || op.Outcome != done && !op.Seen {
			continue
		}
		client := op.Client
		if op.Outcome != done {
			// The client went on meanwhile, and a lane of the picture holds one at a time.
			client = 1000 + len(groups[op.Group])
		}
		groups[op.Group] = append(groups[op.Group],
			porcupine.Operation{ClientId: client, Input: op, Call: op.Call, Return: op.Return})
	}
	numbers := []int64{}
	for number := range groups {
		numbers = append(numbers, number)
	}
	sort.Slice(numbers, func(i, j int) bool { return numbers[i] < numbers[j] })
	for _, number := range numbers {
		order(groups[number])
		verdict := porcupine.CheckOperationsTimeout(model, groups[number], timeout)
		if verdict == porcupine.Ok {
			continue
		}
		problem := fmt.Sprintf("group %d, %d operations: %s", number, len(groups[number]), verdict)
		if out != "" && len(problems) < 5 {
			problem += ", drawn in " + draw(groups[number], out, number, timeout)
		}
		problems = append(problems, problem)
	}
	return problems
}

// order notes for each operation of a group after which change it comes: one that
// changes something after the one before, others after the last up to their revision.
func order(history []porcupine.Operation) {
	changes := []int64{}
	for _, o := range history {
		if op := o.Input.(*operation); op.changes() {
			changes = append(changes, op.Revision)
		}
	}
	sort.Slice(changes, func(i, j int) bool { return changes[i] < changes[j] })
	for _, o := range history {
		op := o.Input.(*operation)
		before := sort.Search(len(changes), func(i int) bool {
			return changes[i] > op.Revision || changes[i] == op.Revision && op.changes()
		})
		op.after = 0
		if before > 0 {
			op.after = changes[before-1]
		}
	}
}

func draw(history []porcupine.Operation, out string, number int64, timeout time.Duration) string {
	lanes := map[int]int{}
	for i := range history {
		if _, known := lanes[history[i].ClientId]; !known {
			lanes[history[i].ClientId] = len(lanes)
		}
		history[i].ClientId = lanes[history[i].ClientId]
	}
	_, info := porcupine.CheckOperationsVerbose(model, history, timeout)
	path := filepath.Join(out, fmt.Sprintf("group-%d.html", number))
	err := os.MkdirAll(out, 0o755)
	if err == nil {
		err = porcupine.VisualizePath(model, info, path)
	}
	if err != nil {
		return err.Error()
	}
	return path
}
