# SPDX-License-Identifier: Apache-2.0
"""What happened, seen in two ways that must agree: read back from a server, one
revision after the other, and as told by a watch."""

import collections

from gateway import Failure, after_prefix, b64, expect, revision_of, unb64

ALL = (b"\0", b"\0")
REVISIONS_A_READ = 25

# create, mod: revisions; lease is 0 for none.
Pair = collections.namedtuple("Pair", "key value create mod version lease")
# kind is PUT or DELETE; pair is what the key has now, prev what it had, or None.
Event = collections.namedtuple("Event", "kind key mod pair prev")


def pair_of(kv):
    return Pair(unb64(kv["key"]), unb64(kv.get("value", "")), int(kv["create_revision"]), int(kv["mod_revision"]),
                int(kv["version"]), int(kv.get("lease", 0)))


def event_of(raw):
    kv = raw["kv"]
    prev = pair_of(raw["prev_kv"]) if "prev_kv" in raw else None
    if raw.get("type") == "DELETE":
        expect(set(kv) == {"key", "mod_revision"}, "a deletion says %s", kv)
        return Event("DELETE", unb64(kv["key"]), int(kv["mod_revision"]), None, prev)
    expect(raw.get("type", "PUT") == "PUT", "an event of type %s", raw.get("type"))
    pair = pair_of(kv)
    return Event("PUT", pair.key, pair.mod, pair, prev)


def in_range(key, start, end):
    if not end:
        return key == start
    return key >= start and (end == b"\0" or key < end)


def span_of(start, end):
    return {"key": b64(start), **({"range_end": b64(end)} if end else {})}


def prefix_span(prefix):
    return prefix, after_prefix(prefix)


class History:
    """The key space as of one revision after the other."""

    def __init__(self):
        self.revision = 1
        self.state = {}    # key: Pair, at that revision
        self.changes = {}  # revision: (the Pairs it put, the keys that are gone, in order)

    def read(self, gateway, last):
        """Reads on, up to 'last' at most; in steps of a bounded size."""
        revisions = range(self.revision + 1, min(last, self.revision + REVISIONS_A_READ) + 1)
        ranges = []
        for revision in revisions:
            span = {**span_of(*ALL), "revision": str(revision)}
            ranges.append({"request_range": {**span, "keys_only": True}})
            ranges.append({"request_range": {**span, "min_mod_revision": str(revision)}})
        answer = gateway.must("kv/txn", {"success": ranges})
        found = [response["response_range"].get("kvs", []) for response in answer["responses"]]
        for i, revision in enumerate(revisions):
            self.step(revision, found[2 * i], [pair_of(kv) for kv in found[2 * i + 1]])

    def step(self, revision, there, put):
        keys = {unb64(kv["key"]): int(kv["mod_revision"]) for kv in there}
        gone = sorted(self.state.keys() - keys.keys())
        for key in gone:
            del self.state[key]
        self.state.update((pair.key, pair) for pair in put)
        expect(all(pair.mod == revision for pair in put), "a key is newer than the revision %d", revision)
        expect(keys == {key: pair.mod for key, pair in self.state.items()},
               "the keys at %d do not follow from those before", revision)
        self.changes[revision] = put, gone
        self.revision = revision


class Watch:
    """A watch, what it was told, and up to where that is complete: it can be
    asked for again from there, on any connection."""

    def __init__(self, name, span, prev_kv=False, filters=(), fragment=False, start=1):
        self.name, self.span, self.prev_kv, self.filters, self.fragment = name, span, prev_kv, filters, fragment
        self.start = start       # 0: from now on, known once it was created
        self.position = start - 1
        self.events = []
        self.pending = []        # of a message in fragments
        self.id = 1
        self.state = "none"      # then asked, created, canceling
        self.fragments = self.catch_ups = 0

    def request(self):
        self.state = "asked"
        self.pending = []
        return {"create_request": {
            **span_of(*self.span), "start_revision": str(self.position + 1), "prev_kv": self.prev_kv,
            "filters": list(self.filters), "fragment": self.fragment, "watch_id": str(self.id)}}

    def take(self, result):
        """The events that came whole with this message."""
        if result.get("canceled"):
            expect(self.state == "canceling", "canceled: %s", result)
            self.state = "none"
        elif result.get("created"):
            expect(self.state == "asked", "created again: %s", result)
            self.state = "created"
            if self.start == 0:
                self.start = revision_of(result) + 1
                self.position = self.start - 1
        elif self.state != "canceling":
            # Once it was asked to cancel, etcd gives events without the pair
            # before; they will come again.
            expect(self.state == "created", "events of a watch that is not there: %s", result)
            return self.take_events(result)
        return []

    def take_events(self, result):
        self.pending += [event_of(raw) for raw in result["events"]]
        if result.get("fragment"):
            expect(self.fragment, "a fragment that nobody asked for")
            self.fragments += 1
            return []
        events, self.pending = self.pending, []
        expect(events[0].mod > self.position, "told of %d, already at %d", events[0].mod, self.position)
        expect(all(a.mod <= b.mod for a, b in zip(events, events[1:])), "revisions out of order in a message")
        expect(revision_of(result) >= events[-1].mod, "the header's revision is behind its events")
        self.catch_ups += events[0].mod != events[-1].mod
        self.events += events
        self.position = events[-1].mod
        return events

    def wants(self, event):
        return (event.mod >= self.start and in_range(event.key, *self.span)
                and {"PUT": "NOPUT", "DELETE": "NODELETE"}[event.kind] not in self.filters)

    def check(self, events):
        """That it was told of exactly those of all 'events' that it asked for."""
        wanted = [event if self.prev_kv else event._replace(prev=None) for event in events if self.wants(event)]
        if self.events == wanted:
            return
        at = next((i for i, (a, b) in enumerate(zip(self.events, wanted)) if a != b),
                  min(len(self.events), len(wanted)))
        raise Failure("%s: %d events, expected %d; number %d is %.400s, expected %.400s" % (
            self.name, len(self.events), len(wanted), at, self.events[at:at + 1], wanted[at:at + 1]))
