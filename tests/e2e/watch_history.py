#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Watches everything that random load does, and compares it with history.

    watch_history.py [--etcd | --kafka] [--seconds N] [--seed N] SERVER

Threads put, delete, run transactions and let leases expire, while others watch,
over HTTP and WebSocket, and lose their connections again and again to resume
after the last revision they saw. One more thread reads the key space back as of
each revision, which is the truth that all is held against: each watch must
have been told of each change of its keys once, in order, a revision at a time,
with the pair before it if it had asked for that. Compaction follows behind.

With --kafka there are three nodes, and each thread uses another one than the
last, each watch at its every connection: what is written at one is read and
watched at others."""

import collections
import random
import sys
import threading
import time

from gateway import (BROKEN, Cluster, Failure, Gateway, Server, TRANSPORTS, arguments, b64, expect, poll, result_of,
                     revision_of, run_tests)
from history import ALL, Event, History, Pair, Watch, in_range, pair_of, prefix_span, span_of

NODES = 3                # with --kafka
LOADERS = 4
LEAD_LIMIT = 2000        # revisions that the load may be ahead of the slowest watch
COMPACT_DISTANCE = 20    # revisions that compaction stays behind it
STALL_LIMIT_SEC = 30     # a watch that is behind and hears nothing for so long has lost something
GROUPS = [b"a/", b"b/", b"c/", b"\x00\x01", b"\xff\xff"]
KEYS_A_GROUP = 8
# What a loader asked for: the range of a PUT is one key.
Change = collections.namedtuple("Change", "kind key end value")


class Shared:
    """What the threads of a run know of each other."""

    def __init__(self, options):
        self.seconds = options.seconds
        self.seed = options.seed
        self.is_etcd = options.etcd
        self.stop_load = threading.Event()
        self.failed = threading.Event()
        self.failures = []
        self.lock = threading.Lock()
        self.newest = 1    # a revision that an answer had
        self.asked = {}    # revision: the Changes that made it, for those with an answer
        self.compacted = 0
        self.compactions = self.late = 0
        self.server = None
        self.historian = None
        self.recorders = []
        self.last_put = self.last_delete = None  # the revisions that end the run
        self.expected = None  # all events, once history has been checked

    def saw(self, revision, changes=None):
        with self.lock:
            self.newest = max(self.newest, revision)
            if changes:
                if revision in self.asked:
                    raise Failure("two requests made revision %d" % revision)
                self.asked[revision] = changes

    def slowest(self):
        return min([self.historian.history.revision] + [w.position for r in self.recorders for w in r.watches])

    def fail(self, text):
        self.failures.append(text)
        self.failed.set()


class Worker(threading.Thread):
    """A thread whose failure fails the run."""

    def __init__(self, shared, name):
        super().__init__(daemon=True, name=name)
        self.shared = shared
        self.random = random.Random("%d %s" % (shared.seed, name))

    def run(self):
        try:
            self.work()
        except (Failure, AssertionError, *BROKEN) as error:
            self.shared.fail("%s: %s: %s" % (self.name, type(error).__name__, error))


# ---------------------------------------------------------------- the load

class Loader(Worker):
    def work(self):
        self.gateway = self.shared.server.gateway()
        self.leases = []
        self.count = 0
        kinds = [(50, self.put), (8, self.delete_key), (8, self.delete_range), (1, self.delete_much),
                 (25, self.transact), (4, self.grant), (3, self.revoke), (3, self.renew)]
        while not self.shared.stop_load.is_set() and not self.shared.failed.is_set():
            if self.shared.newest - self.shared.slowest() > LEAD_LIMIT:
                self.shared.stop_load.wait(0.005)
                continue
            self.count += 1
            self.random.choices([kind for _, kind in kinds], [share for share, _ in kinds])[0]()
        self.gateway.close()

    def key(self, group=None):
        group = self.random.choice(GROUPS) if group is None else group
        return group + b"%d" % min(self.random.randrange(KEYS_A_GROUP), self.random.randrange(KEYS_A_GROUP))

    def value(self):
        size = self.random.randrange(20, 120) * 1000 if self.random.random() < 0.05 else self.random.randrange(60)
        return b"%s.%d." % (self.name.encode(), self.count) + bytes([self.random.randrange(256)]) * size

    def put(self):
        key, value = self.key(), self.value()
        body = {"key": b64(key), "value": b64(value)}
        if self.leases and self.random.random() < 0.4:
            body["lease"] = self.random.choice(self.leases)
        status, answer = self.gateway.call("kv/put", body)
        if status == 404 and "lease" in body:  # it has expired
            self.leases.remove(body["lease"])
            return
        expect(status == 200, "put answered %s %s", status, answer)
        self.shared.saw(revision_of(answer), [Change("PUT", key, b"", value)])

    def delete(self, start, end):
        answer = self.gateway.must("kv/deleterange", span_of(start, end))
        changed = int(answer.get("deleted", 0)) > 0
        self.shared.saw(revision_of(answer), [Change("DELETE", start, end, None)] if changed else None)

    def delete_key(self):
        self.delete(self.key(), b"")

    def some_range(self, group):
        ends = sorted({self.key(group), self.key(group)})
        return (ends[0], ends[1]) if len(ends) == 2 else (ends[0], ends[0] + b"\0")

    def delete_range(self):
        self.delete(*self.some_range(self.random.choice(GROUPS)))

    def delete_much(self):
        group = self.random.choice(GROUPS)
        self.delete(*self.random.choice([ALL, prefix_span(group), (group, b"\0")]))

    def branch(self):
        """Operations and the Changes they mean, in order: puts in one group,
        deletions in another, and perhaps a key that changes twice."""
        put_group, delete_group, twice_group = self.random.sample(GROUPS, 3)
        changes = [Change("PUT", key, b"", self.value()) for key in
                   {self.key(put_group) for _ in range(self.random.randrange(5))}]
        if self.random.random() < 0.5:
            changes.append(Change("DELETE", *self.some_range(delete_group), None))
        self.random.shuffle(changes)
        operations = [self.operation(change) for change in changes]
        if self.random.random() < 0.3 and not self.shared.is_etcd:
            # A key may change twice in one revision: put and deleted in two
            # nested transactions, or deleted with all up to the end, and put.
            # (etcd tells its watches the same, but ends with "range failed to
            # find revision pair" when such a revision has been compacted.)
            key = self.key(twice_group)
            if self.random.random() < 0.5:
                twice = [Change("PUT", key, b"", self.value()), Change("DELETE", key, b"", None)]
                operations += [{"request_txn": {"success": [self.operation(change)]}} for change in twice]
            else:
                twice = [Change("DELETE", key, b"\0", None), Change("PUT", key, b"", self.value())]
                operations += [self.operation(change) for change in twice]
            changes += twice
        return operations, changes

    @staticmethod
    def operation(change):
        if change.kind == "PUT":
            return {"request_put": {"key": b64(change.key), "value": b64(change.value)}}
        return {"request_delete_range": span_of(change.key, change.end)}

    def transact(self):
        compare = {"key": b64(self.key()), "target": "VERSION", "result": "GREATER", "version": "0"}
        (yes, yes_changes), (no, no_changes) = self.branch(), self.branch()
        answer = self.gateway.must("kv/txn", {"compare": [compare], "success": yes, "failure": no})
        changes = yes_changes if answer.get("succeeded") else no_changes
        self.shared.saw(revision_of(answer), changes if self.changed(answer) else None)

    def changed(self, answer):
        for response in answer.get("responses", []):
            if ("response_put" in response or int(response.get("response_delete_range", {}).get("deleted", 0))
                    or self.changed(response.get("response_txn", {}))):
                return True
        return False

    def grant(self):
        self.leases.append(self.gateway.must("lease/grant", {"TTL": str(self.random.choice((1, 2, 3)))})["ID"])

    def revoke(self):
        """What this does to the keys has no answer that tells: see expected_events."""
        if self.leases:
            lease = self.leases.pop(self.random.randrange(len(self.leases)))
            status, answer = self.gateway.call("lease/revoke", {"ID": lease})
            expect(status in (200, 404), "revoke answered %s %s", status, answer)

    def renew(self):
        if self.leases:
            self.gateway.must("lease/keepalive", {"ID": self.random.choice(self.leases)})


# ---------------------------------------------------------------- the truth

class Historian(Worker):
    """Reads the key space as of each revision."""

    def __init__(self, shared):
        super().__init__(shared, "historian")
        self.history = History()

    def work(self):
        gateway = self.shared.server.gateway()
        while not self.shared.failed.is_set():
            newest = revision_of(gateway.must("kv/range", {"key": b64(b"\0"), "serializable": True}))
            self.shared.saw(newest)
            last = self.shared.last_delete
            if self.history.revision == last:
                expect(newest == last, "revision %d comes after the last, %d", newest, last)
                break
            while self.history.revision < newest and not self.shared.failed.is_set():
                self.history.read(gateway, newest)
            self.shared.failed.wait(0.002)
        gateway.close()


def expected_events(shared):
    """Yields the events of each revision, in order: from what was read back, and
    for their order within the revision from what was asked for."""
    history, state = shared.historian.history, {}
    for revision in range(2, history.revision + 1):
        put, gone = history.changes[revision]
        pairs = {pair.key: pair for pair in put}
        changes = shared.asked.get(revision)
        if changes is None:
            # Nobody asked: a lease has ended, and its keys go in byte order.
            expect(not put and all(state[key].lease for key in gone),
                   "revision %d, that nobody made, is not the end of a lease", revision)
            changes = [Change("DELETE", key, b"", None) for key in gone]
        events, before = [], dict(state)
        for change in changes:
            if change.kind == "DELETE":
                for key in sorted(key for key in state if in_range(key, change.key, change.end)):
                    del state[key]
                    events.append(Event("DELETE", key, revision, None, before.get(key)))
                continue
            old = state.get(change.key)
            state[change.key] = Pair(change.key, change.value, old.create if old else revision, revision,
                                     old.version + 1 if old else 1, 0)
            if change.key in pairs:  # what was put last; that has the lease
                state[change.key] = state[change.key]._replace(lease=pairs[change.key].lease)
            events.append(Event("PUT", change.key, revision, state[change.key], old))
        expect({key: pair for key, pair in state.items() if pair.mod == revision} == pairs
               and before.keys() - state.keys() == set(gone), "revision %d reads otherwise than was asked for", revision)
        yield events


# ---------------------------------------------------------------- the watches

class Recorder(Worker):
    """Keeps one connection's watches going: one over HTTP, any number over WebSocket."""

    def __init__(self, shared, transport, watches):
        super().__init__(shared, "%s %s" % (transport, "+".join(w.name for w in watches)))
        self.transport = transport
        self.watches = watches
        self.connections = 0
        self.ids = {}  # of the connection

    def is_done(self):
        if self.shared.last_delete is None:
            return False
        return all(watch.position == (self.shared.last_put if "NODELETE" in watch.filters
                                      else self.shared.last_delete) for watch in self.watches)

    def work(self):
        while not self.is_done() and not self.shared.failed.is_set():
            self.connections += 1
            stream = self.open()
            try:
                self.follow(stream)
            finally:
                stream.close(polite=self.random.random() < 0.5)
            if self.random.random() < 0.4:
                self.fall_behind(self.random.randrange(LEAD_LIMIT))

    def fall_behind(self, revisions):
        until = min(watch.position for watch in self.watches) + revisions
        while self.shared.newest < until and not self.shared.stop_load.wait(0.005):
            if self.shared.failed.is_set():
                return

    def open(self):
        self.ids = {}
        if self.transport == "http":
            return TRANSPORTS["http"](self.shared.server.port, "/v3/watch", self.request(self.watches[0]))
        stream = TRANSPORTS["websocket"](self.shared.server.port, "/v3/watch")
        for watch in self.watches:
            stream.send(self.request(watch))
        return stream

    def request(self, watch):
        """Each under an id of its own: etcd gives a watch what it had still in
        hand for a canceled one of the same id."""
        watch.id = len(self.ids) + 1
        self.ids[watch.id] = watch
        return watch.request()

    def follow(self, stream):
        # Now and then so short that nothing but the creation is seen.
        end = time.monotonic() + self.random.choice((0.01, 0.1, 0.5, 2, 5)) * self.random.random()
        heard = time.monotonic()
        self.sure_of = []  # watches that the progress asked for speaks of
        while not self.is_done() and not self.shared.failed.is_set():
            if time.monotonic() > end and all(watch.start for watch in self.watches):
                return
            if self.transport == "websocket" and self.random.random() < 0.02:
                self.meddle(stream)
            try:
                result = result_of(stream.next(0.1))
            except TimeoutError:
                behind = self.shared.last_delete is not None
                expect(not behind or time.monotonic() - heard < STALL_LIMIT_SEC,
                       "nothing more comes after %s", [watch.position for watch in self.watches])
                continue
            heard = time.monotonic()
            self.take(stream, result)

    def meddle(self, stream):
        watch = self.random.choice(self.watches)
        if self.random.random() < 0.5:
            if not self.sure_of:
                self.sure_of = [w for w in self.watches if w.state == "created"]
                stream.send({"progress_request": {}})
        elif watch.state == "created" and watch.start:
            watch.state = "canceling"
            self.sure_of = [w for w in self.sure_of if w is not watch]
            stream.send({"cancel_request": {"watch_id": str(watch.id)}})

    def take(self, stream, result):
        number = int(result.get("watch_id", 0))
        if not result.get("created") and not result.get("canceled") and not result.get("events"):
            self.take_progress(number, revision_of(result))
            return
        watch = self.ids[number]
        expect(watch.id == number, "a message for the canceled watch %d", number)
        watch.take(result)
        if watch.state == "none":  # canceled, as was asked
            stream.send(self.request(watch))

    def take_progress(self, number, revision):
        expect(number == -1, "progress of watch %d", number)
        for watch in self.sure_of:
            expect(watch.position <= revision and not watch.pending, "progress at %d after events of %d", revision,
                   watch.position)
            watch.position = revision
        self.sure_of = []


def make_recorders(shared):
    group, other = GROUPS[0], GROUPS[4]
    narrow, wide = prefix_span(group), prefix_span(other)
    single = (GROUPS[1] + b"0", b"")
    return [
        Recorder(shared, "http", [Watch("all", ALL, prev_kv=True)]),
        Recorder(shared, "http", [Watch("all-fragments", ALL, fragment=True)]),
        Recorder(shared, "http", [Watch("prefix", narrow, prev_kv=True)]),
        Recorder(shared, "http", [Watch("from-now", ALL, start=0)]),
        Recorder(shared, "http", [Watch("deletions", ALL, filters=["NOPUT"], prev_kv=True)]),
        Recorder(shared, "websocket", [Watch("all-ws", ALL, prev_kv=True, fragment=True)]),
        Recorder(shared, "websocket", [Watch("future", ALL, start=200)]),
        Recorder(shared, "websocket", [
            Watch("key", single, prev_kv=True), Watch("last-prefix", wide), Watch("key-puts", single, filters=["NODELETE"]),
            Watch("prefix-deletions", narrow, filters=["NOPUT"]), Watch("rest", (GROUPS[2], b"\0"), prev_kv=True)]),
    ]


# ---------------------------------------------------------------- compaction

class Compactor(Worker):
    """Compacts behind the slowest; who starts to watch before that is told so."""

    def work(self):
        shared = self.shared
        gateway = shared.server.gateway()
        while not shared.stop_load.wait(0.2) and not shared.failed.is_set():
            revision = shared.slowest() - COMPACT_DISTANCE
            if revision <= shared.compacted + 50:
                continue
            gateway.must("kv/compaction", {"revision": str(revision), "physical": self.random.random() < 0.3})
            shared.compacted = revision
            shared.compactions += 1
            transport = self.random.choice(sorted(TRANSPORTS))
            check_too_late(shared.server.port, transport, self.random.randrange(1, revision), revision)
            shared.late += 1
        gateway.close()


def check_too_late(port, transport, start, compacted):
    body = {"create_request": {**span_of(*ALL), "start_revision": str(start)}}
    # A node other than the one that compacted knows of it at the latest when it has answered this.
    gateway = Gateway(port)
    gateway.must("kv/range", {"key": b64(b"\0")})
    gateway.close()
    stream = TRANSPORTS[transport](port, "/v3/watch", body)
    try:
        result = result_of(stream.next(20))
        expect(result.get("created") and not result.get("canceled"), "not created: %s", result)
        result = result_of(stream.next(20))
        expect(result.get("canceled") and int(result.get("compact_revision", 0)) == compacted,
               "a watch from %d, compacted at %d, is told %s", start, compacted, result)
    finally:
        stream.close()


# ---------------------------------------------------------------- tests

def load_runs_and_watches_follow(shared):
    shared.historian = Historian(shared)
    shared.recorders = make_recorders(shared)
    loaders = [Loader(shared, "load%d" % i) for i in range(LOADERS)]
    compactor = Compactor(shared, "compactor")
    for thread in [shared.historian, *shared.recorders, *loaders, compactor]:
        thread.start()
    shared.failed.wait(shared.seconds)
    shared.stop_load.set()
    for thread in [*loaders, compactor]:
        thread.join()
    end_history(shared)
    for thread in [shared.historian, *shared.recorders]:
        thread.join()
    expect(not shared.failures, "%s", "; ".join(shared.failures))
    print("revision %d, %d of them made by leases; %d compactions, %d watches that came too late" % (
        shared.last_delete, shared.last_delete - 1 - len(shared.asked), shared.compactions, shared.late))
    expect(shared.compactions and shared.last_delete - 1 > len(shared.asked), "the load did too little to prove much")


def end_history(shared):
    """Waits for the leases to end, and makes two revisions that concern each watch."""
    gateway = shared.server.gateway()
    poll(lambda: shared.failed.is_set() or not gateway.must("lease/leases", {}).get("leases"), 30, "the end of all leases")
    puts = [Change("PUT", group + b"%d" % i, b"", b"last") for group in GROUPS for i in range(KEYS_A_GROUP)]
    revision = revision_of(gateway.must("kv/txn", {"success": [Loader.operation(change) for change in puts]}))
    shared.saw(revision, puts)
    shared.last_put = revision
    revision = revision_of(gateway.must("kv/deleterange", span_of(*ALL)))
    shared.saw(revision, [Change("DELETE", *ALL, None)])
    shared.last_delete = revision
    gateway.close()


def history_is_what_was_asked_for(shared):
    expect(not shared.failures, "there is no history")
    shared.expected = [event for events in expected_events(shared) for event in events]


def each_watch_was_told_everything_once_and_in_order(shared):
    expect(shared.expected, "there is no history")
    problems = []
    for recorder in shared.recorders:
        for watch in recorder.watches:
            print("%s: %d events, %d connections, %d catch-ups, %d fragments" % (
                watch.name, len(watch.events), recorder.connections, watch.catch_ups, watch.fragments))
            try:
                watch.check(shared.expected)
            except Failure as error:
                problems.append(str(error))
    expect(not problems, "%s", "; ".join(problems))


def revisions_that_are_not_compacted_read_the_same_again(shared):
    """One by one, with everything compacted that a real run would have left."""
    expect(shared.expected, "there is no history")
    gateway = shared.server.gateway()
    state = {}
    for event in shared.expected:
        if event.mod > shared.compacted:
            break
        apply(state, event)
    events = [event for event in shared.expected if event.mod > shared.compacted]
    for revision in range(max(2, shared.compacted), shared.last_delete + 1):
        while events and events[0].mod == revision:
            apply(state, events.pop(0))
        answer = gateway.must("kv/range", {**span_of(*ALL), "revision": str(revision)})
        found = [pair_of(kv) for kv in answer.get("kvs", [])]
        expect(found == [state[key] for key in sorted(state)], "revision %d reads differently now", revision)
    if shared.compacted > 1:
        status, answer = gateway.call("kv/range", {**span_of(*ALL), "revision": str(shared.compacted - 1)})
        expect(status == 400 and answer["code"] == 11, "a compacted revision reads %s %s", status, answer)
    gateway.close()


def apply(state, event):
    if event.kind == "PUT":
        state[event.key] = event.pair
    else:
        del state[event.key]


def a_stalled_watch_is_told_of_a_compaction_over_http(shared):
    check_stalled(shared, "http")


def a_stalled_watch_is_told_of_a_compaction_over_websocket(shared):
    check_stalled(shared, "websocket")


def check_stalled(shared, transport):
    """One that does not read while much happens and is compacted away."""
    gateway = shared.server.gateway()
    key = b"stalled/" + transport.encode()
    stream = TRANSPORTS[transport](shared.server.port, "/v3/watch", {"create_request": {"key": b64(key)}},
                                   receive_buffer=4096)
    try:
        expect(result_of(stream.next(20)).get("created"), "not created")
        value = b"v" * 100000
        revisions = [gateway.put(key, value) for _ in range(500)]
        gateway.must("kv/compaction", {"revision": str(revisions[-1])})
        result = result_of(stream.next(20))
        seen = []
        while not result.get("canceled"):
            seen += [int(event["kv"]["mod_revision"]) for event in result["events"]]
            result = result_of(stream.next(20))
        expect(seen == revisions[:len(seen)], "told of %s", seen)
        expect(len(seen) < len(revisions), "everything was kept for a client that does not read")
        expect(int(result.get("compact_revision", 0)) == revisions[-1], "told %s", result)
    finally:
        stream.close()
    after = gateway.put(key, b"after")
    stream = TRANSPORTS[transport](shared.server.port, "/v3/watch", {
        "create_request": {"key": b64(key), "start_revision": str(revisions[-1] + 1)}})
    try:
        expect(result_of(stream.next(20)).get("created"), "not created")
        events = result_of(stream.next(20))["events"]
        expect([int(event["kv"]["mod_revision"]) for event in events] == [after], "resumed with %s", events)
    finally:
        stream.close()
        gateway.close()


def all_nodes_hold_the_same(shared):
    states = shared.server.states()
    expect(len(set(states)) == 1, "%s", states)


TESTS = [load_runs_and_watches_follow, history_is_what_was_asked_for,
         each_watch_was_told_everything_once_and_in_order, revisions_that_are_not_compacted_read_the_same_again,
         a_stalled_watch_is_told_of_a_compaction_over_http, a_stalled_watch_is_told_of_a_compaction_over_websocket]


def main():
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    print("seed %d" % options.seed, flush=True)
    shared = Shared(options)
    name = "keta-watch-history"
    shared.server = Cluster(options, NODES, name) if options.kafka else Server(options, name=name)
    with shared.server:
        return run_tests(TESTS + [all_nodes_hold_the_same] * options.kafka, shared, shared.server)


if __name__ == "__main__":
    sys.exit(main())
