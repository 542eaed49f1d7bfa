// SPDX-License-Identifier: Apache-2.0

package main

// An operation: what was asked, when, and what was answered. Every operation is
// a transaction here; one without compares and with one action is sent as the
// plain request that it is. Times are nanoseconds since the program began, on
// the monotonic clock.

import (
	"fmt"
	"math"
	"strings"
	"time"
)

var epoch = time.Now()

func now() int64 { return int64(time.Since(epoch)) }

const never = math.MaxInt64

// A cell is what a key has. Version 0 means that it is not there.
type cell struct {
	Value   string
	Create  int64
	Mod     int64
	Version int64
}

func cellOf(kv *keyValue) cell {
	if kv == nil {
		return cell{}
	}
	return cell{string(kv.Value), kv.Create, kv.Mod, kv.Version}
}

type compare struct {
	Key    string
	Target string // MOD, CREATE, VERSION or VALUE
	Result string // EQUAL, GREATER, LESS or NOT_EQUAL
	Number int64
	Value  string
}

type verb int

const (
	get verb = iota
	put
	del
)

type action struct {
	Verb  verb
	Key   string
	End   string // of a range; empty for one key
	Value string
	Lease int64
	Prev  bool // asks for what was there
}

type found struct {
	Key string
	cell
}

// What an action was answered: a get what it found, others what was there before
// if that was asked for.
type result struct {
	Found   []found
	Deleted int64
}

func (r *result) at(key string) cell {
	for _, f := range r.Found {
		if f.Key == key {
			return f.cell
		}
	}
	return cell{}
}

type operation struct {
	ID        int64
	Kind      string // for the counts
	Client    int
	Group     int64 // 0: in no group, and not given to the model
	Endpoint  string
	Compares  []compare
	Then      []action
	Else      []action
	Call      int64
	Return    int64 // never, when the outcome is unknown
	Outcome   outcome
	Error     string
	Revision  int64
	Succeeded bool
	Results   []result
	Seen      bool  // the outcome is unknown, but a watch has told that it happened
	after     int64 // the revision of the change before, in its group
}

// branch is what was carried out, of an operation that happened.
func (op *operation) branch() []action {
	if op.Succeeded {
		return op.Then
	}
	return op.Else
}

// changes says whether an operation that happened has made a revision.
func (op *operation) changes() bool {
	if op.Seen {
		return true
	}
	for i, a := range op.branch() {
		if a.Verb == put || a.Verb == del && op.Results[i].Deleted > 0 {
			return true
		}
	}
	return false
}

func (op *operation) reads() bool {
	for _, a := range append(append([]action{}, op.Then...), op.Else...) {
		if a.Verb != get {
			return false
		}
	}
	return true
}

// Values tell who wrote them: the operation's number and a filling.
func valueOf(id int64, filling int) string {
	return fmt.Sprintf("%d.%s", id, strings.Repeat("x", filling))
}

func writerOf(value string) int64 {
	var id int64
	if _, err := fmt.Sscanf(value, "%d.", &id); err != nil {
		return 0
	}
	return id
}

func (a action) request() map[string]any {
	body := map[string]any{"key": []byte(a.Key)}
	if a.End != "" {
		body["range_end"] = []byte(a.End)
	}
	if a.Verb == put {
		body["value"] = []byte(a.Value)
		if a.Lease != 0 {
			body["lease"] = fmt.Sprint(a.Lease)
		}
	}
	if a.Prev {
		body["prev_kv"] = true
	}
	return body
}

func requestOps(actions []action) []map[string]any {
	ops := []map[string]any{}
	for _, a := range actions {
		name := [...]string{"request_range", "request_put", "request_delete_range"}[a.Verb]
		ops = append(ops, map[string]any{name: a.request()})
	}
	return ops
}

func (c compare) request() map[string]any {
	body := map[string]any{"key": []byte(c.Key), "target": c.Target, "result": c.Result}
	switch c.Target {
	case "VALUE":
		body["value"] = []byte(c.Value)
	case "MOD":
		body["mod_revision"] = fmt.Sprint(c.Number)
	case "CREATE":
		body["create_revision"] = fmt.Sprint(c.Number)
	case "VERSION":
		body["version"] = fmt.Sprint(c.Number)
	}
	return body
}

func resultOf(deleted int64, kvs ...*keyValue) (r result) {
	r.Deleted = deleted
	for _, kv := range kvs {
		if kv != nil {
			r.Found = append(r.Found, found{string(kv.Key), cellOf(kv)})
		}
	}
	return r
}

// perform sends the operation and notes what became of it.
func (op *operation) perform(c *caller, endpoint string, timeout time.Duration) error {
	op.Endpoint = endpoint
	op.Call = now()
	err := op.send(c, endpoint, timeout)
	op.Return = now()
	if op.Outcome == unknown {
		op.Return = never
	}
	if err != nil {
		op.Error = err.Error()
	}
	return err
}

func (op *operation) send(c *caller, endpoint string, timeout time.Duration) (err error) {
	if len(op.Compares) > 0 || len(op.Then) != 1 {
		return op.sendTxn(c, endpoint, timeout)
	}
	op.Succeeded = true
	a := op.Then[0]
	switch a.Verb {
	case get:
		answer := rangeAnswer{}
		op.Outcome, err = c.post(endpoint, "kv/range", timeout, a.request(), &answer)
		op.Revision, op.Results = answer.Header.Revision, []result{resultOf(0, answer.Kvs...)}
	case put:
		answer := putAnswer{}
		op.Outcome, err = c.post(endpoint, "kv/put", timeout, a.request(), &answer)
		op.Revision, op.Results = answer.Header.Revision, []result{resultOf(0, answer.Prev)}
	case del:
		answer := deleteAnswer{}
		op.Outcome, err = c.post(endpoint, "kv/deleterange", timeout, a.request(), &answer)
		op.Revision, op.Results = answer.Header.Revision, []result{resultOf(answer.Deleted, answer.Prevs...)}
	}
	return err
}

func (op *operation) sendTxn(c *caller, endpoint string, timeout time.Duration) (err error) {
	compares := []map[string]any{}
	for _, c := range op.Compares {
		compares = append(compares, c.request())
	}
	body := map[string]any{"compare": compares, "success": requestOps(op.Then), "failure": requestOps(op.Else)}
	answer := txnAnswer{}
	op.Outcome, err = c.post(endpoint, "kv/txn", timeout, body, &answer)
	if op.Outcome != done {
		return err
	}
	op.Revision, op.Succeeded = answer.Header.Revision, answer.Succeeded
	branch := op.branch()
	// An answer that does not fit is not to pass: nobody may be told of a write that was refused.
	if len(answer.Responses) != len(branch) {
		op.Outcome = refused
		return fmt.Errorf("a transaction of %d actions was answered %d", len(branch), len(answer.Responses))
	}
	for i, a := range branch {
		response := answer.Responses[i]
		switch {
		case a.Verb == get && response.Range != nil:
			op.Results = append(op.Results, resultOf(0, response.Range.Kvs...))
		case a.Verb == put && response.Put != nil:
			op.Results = append(op.Results, resultOf(0, response.Put.Prev))
		case a.Verb == del && response.Delete != nil:
			op.Results = append(op.Results, resultOf(response.Delete.Deleted, response.Delete.Prevs...))
		default:
			op.Outcome = refused
			return fmt.Errorf("action %d of a transaction was answered in another kind", i)
		}
	}
	return nil
}

func (op *operation) String() string {
	text := fmt.Sprintf("#%d %s at %s", op.ID, op.Kind, op.Endpoint)
	if op.Outcome == done || op.Seen {
		text += fmt.Sprintf(", revision %d", op.Revision)
	}
	return text + fmt.Sprintf(", %s, %.6f s", op.Outcome, float64(op.Call)/1e9)
}
