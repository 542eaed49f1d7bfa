// SPDX-License-Identifier: Apache-2.0

package main

// Watchers: each follows all keys of this run from its first revision on, over
// one HTTP stream after the other, and resumes after the last revision that it
// was told whole. Some stay at their endpoint for as long as it lets them,
// others leave now and then and go to any other.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"net/http"
	"sort"
	"sync"
	"time"
)

type event struct {
	Key      string
	Deleted  bool
	Now      cell // of a deletion only the revision
	Prev     cell
	Lease    int64
	Revision int64
	Told     int64 // when
}

// A tale is what all watchers of a run are told, which must be the same: who is
// told first adds to it, the others compare.
type tale struct {
	mu     sync.Mutex
	events []event
}

// hear takes the event at a place, and gives the one that is there if it is another.
func (t *tale) hear(at int, e event) (other *event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at == len(t.events) {
		t.events = append(t.events, e)
	}
	known := t.events[at]
	known.Told = e.Told
	if known != e {
		return &known
	}
	return nil
}

type watchMessage struct {
	Result struct {
		Header          header `json:"header"`
		Created         bool   `json:"created"`
		Canceled        bool   `json:"canceled"`
		CancelReason    string `json:"cancel_reason"`
		CompactRevision int64  `json:"compact_revision,string"`
		Events          []struct {
			Type string    `json:"type"`
			Kv   keyValue  `json:"kv"`
			Prev *keyValue `json:"prev_kv"`
		} `json:"events"`
	} `json:"result"`
	Error *failure `json:"error"`
}

type watcher struct {
	name      string
	endpoints []string
	at        int
	stays     bool
	random    *rand.Rand
	key, end  string
	counts    *counts

	told     *tale
	mu       sync.Mutex
	next     int   // place in the tale of the next event
	astray   bool  // it was told something else than others
	position int64 // everything up to here was told
	problems []string
	resumed  int
}

func (w *watcher) reached() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.position
}

// follow watches until the context ends.
func (w *watcher) follow(ctx context.Context) {
	for ctx.Err() == nil {
		life, cancel := ctx, context.CancelFunc(func() {})
		if !w.stays {
			w.at = w.random.Intn(len(w.endpoints))
			life, cancel = context.WithTimeout(ctx, time.Duration(w.random.Intn(8000)+200)*time.Millisecond)
		}
		err := w.stream(life, w.endpoints[w.at])
		cancel()
		what, text := done, ""
		if err != nil && life.Err() == nil {
			what, text = unknown, err.Error()
		}
		w.counts.add("watch", what, text)
		w.resumed++
		select {
		case <-ctx.Done():
		case <-time.After(pauseWhenDown):
		}
	}
}

// stream is one stream, up to its end.
func (w *watcher) stream(ctx context.Context, endpoint string) error {
	body, _ := json.Marshal(map[string]any{"create_request": map[string]any{
		"key": []byte(w.key), "range_end": []byte(w.end), "start_revision": fmt.Sprint(w.reached() + 1),
		"prev_kv": true, "progress_notify": true}})
	request, err := http.NewRequestWithContext(ctx, "POST", endpoint+"/v3/watch", bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	decoder := json.NewDecoder(response.Body)
	for {
		message := watchMessage{}
		if err := decoder.Decode(&message); err != nil {
			return err
		}
		if message.Error != nil {
			return message.Error
		}
		if err := w.take(&message); err != nil {
			return err
		}
	}
}

// take adds what a message tells. A message without events promises that all up
// to its revision was told, unless it is the first.
func (w *watcher) take(message *watchMessage) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := &message.Result
	if m.Canceled {
		if m.CompactRevision != 0 {
			w.complain("canceled at %d, compacted at %d", w.position, m.CompactRevision)
		}
		return fmt.Errorf("canceled: %s", m.CancelReason)
	}
	if m.Created {
		return nil
	}
	told, position := now(), m.Header.Revision
	if len(m.Events) > 0 {
		position = w.position
	}
	for _, e := range m.Events {
		if e.Kv.Mod <= w.position || e.Kv.Mod < position {
			w.complain("told of %q at %d after %d", e.Kv.Key, e.Kv.Mod, w.position)
			continue
		}
		position = e.Kv.Mod
		w.hear(event{Key: string(e.Kv.Key), Deleted: e.Type == "DELETE", Now: cellOf(&e.Kv), Prev: cellOf(e.Prev),
			Lease: e.Kv.Lease, Revision: e.Kv.Mod, Told: told})
	}
	if m.Header.Revision < position {
		w.complain("a message of revision %d tells of %d", m.Header.Revision, position)
	}
	if position > w.position {
		w.position = position
	}
	return nil
}

func (w *watcher) hear(e event) {
	if w.astray {
		return
	}
	if other := w.told.hear(w.next, e); other != nil {
		w.astray = true
		w.complain("event %d is %.200s, others were told %.200s", w.next,
			fmt.Sprintf("%+v", e), fmt.Sprintf("%+v", *other))
		return
	}
	w.next++
}

func (w *watcher) complain(format string, details ...any) {
	w.problems = append(w.problems, w.name+": "+fmt.Sprintf(format, details...))
}

// upTo gives what was told up to a revision. Some may have heard of more.
func (t *tale) upTo(last int64) []event {
	n := sort.Search(len(t.events), func(i int) bool { return t.events[i].Revision > last })
	return t.events[:n]
}

// checkWatchersAgree says who was told less than others, or something else.
func checkWatchersAgree(watchers []*watcher, last int64) (problems []string) {
	for _, w := range watchers {
		problems = append(problems, w.problems...)
		if w.position < last {
			problems = append(problems, fmt.Sprintf("%s was told up to %d only, not %d", w.name, w.position, last))
		}
		if all := len(w.told.upTo(last)); w.next < all && !w.astray {
			problems = append(problems, fmt.Sprintf("%s was told %d events, others %d", w.name, w.next, all))
		}
	}
	return problems
}
