#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills a server again and again while watches follow what is written and
leases run, and checks that it kept its word.

    crash_streams.py [--etcd] [--rounds N] [--seed N] SERVER

After each restart: every acknowledged write is there at its revision, nothing is
there that nobody wrote, and no lease has less time than it was promised. The
watches resume after the last revision they saw; in the end they must have been
told of all that is in the recovered history once, and of nothing else: what a
watch has told before a crash may not be undone by it."""

import itertools
import random
import sys
import threading
import time

from gateway import (BROKEN, Failure, Gateway, Server, TRANSPORTS, arguments, b64, expect, poll, result_of, revision_of,
                     run_tests)
from history import ALL, Event, History, Watch, pair_of, prefix_span, span_of

WRITERS = 3
LEASE_HOLDERS = 3
LEASES_A_HOLDER = 15
COMPACT_DISTANCE = 50
END_LIMIT_SEC = 30      # that a lease may live longer than its time, after the last start
LONG_TTL_SEC = 120      # longer than most runs: such a lease must outlive all restarts
LEASES = b"l/"


class Promise:
    """A lease, as its holder knows it, with one key."""

    def __init__(self, number, ttl):
        self.id, self.ttl = str(number), ttl
        self.key = LEASES + self.id.encode()
        self.sent = None       # when the newest grant or renewal was sent that was acknowledged
        self.attached = False  # the key was put, acknowledged
        self.revoked = False   # or perhaps
        self.gone = None       # when it was first known that the key is not there any more
        self.acknowledged_end = False

    def ends(self):
        return self.sent + self.ttl

    def is_gone(self, now):
        self.gone = now if self.gone is None else min(self.gone, now)

    def check(self):
        if self.gone is not None and not self.revoked:
            expect(self.gone >= self.ends(), "lease %s of %d s ended %.3f s too early", self.id, self.ttl,
                   self.ends() - self.gone)


class Shared:
    """What outlives the server's lives."""

    def __init__(self, options, server):
        self.options, self.server = options, server
        self.random = random.Random(options.seed)
        self.lock = threading.Lock()
        self.numbers = itertools.count(1)
        self.sent = set()          # (key, value) of all puts that were ever sent
        self.acknowledged = {}     # revision: {key: value, or None when deleted}
        self.highest = 1           # revision in an answer
        self.promises = {}         # key: Promise
        self.history = History()
        self.compacted = 0
        self.life = 0              # the number of the server's life
        self.running = threading.Condition()
        self.is_up = self.over = False
        self.failures = []
        self.failed = True         # until all lives are over
        self.watchers = [
            Watcher(self, "http", Watch("http", ALL)),
            Watcher(self, "http", Watch("http-prev", ALL, prev_kv=True, fragment=True)),
            Watcher(self, "websocket", Watch("websocket", ALL, prev_kv=True)),
            Watcher(self, "websocket", Watch("leases", prefix_span(LEASES), prev_kv=True)),
        ]

    def saw(self, answer):
        with self.lock:
            self.highest = max(self.highest, revision_of(answer))

    def acknowledge(self, answer, changes):
        with self.lock:
            revision = revision_of(answer)
            self.highest = max(self.highest, revision)
            expect(revision not in self.acknowledged, "two writes were acknowledged at %d", revision)
            self.acknowledged[revision] = changes

    def set_up(self, up, over=False):
        with self.running:
            self.is_up, self.over = up, over
            self.life += up
            self.running.notify_all()


# ---------------------------------------------------------------- watches

class Watcher(threading.Thread):
    """Follows over all lives."""

    def __init__(self, shared, transport, watch):
        super().__init__(daemon=True, name=watch.name)
        self.shared, self.transport, self.watch = shared, transport, watch
        self.last = None  # the revision to end at
        self.resumed = 0

    def run(self):
        try:
            life = 0
            while not self.is_done():
                with self.shared.running:
                    while not (self.shared.is_up or self.shared.over):
                        self.shared.running.wait()
                    if self.shared.over and not self.shared.is_up:
                        return
                    life = self.shared.life
                self.follow(life)
        except (Failure, AssertionError) as error:
            self.shared.failures.append("%s: %s" % (self.name, error))

    def is_done(self):
        return self.last is not None and self.watch.position >= self.last

    def follow(self, life):
        """Until the connection breaks, or the server's life is over."""
        stream = None
        try:
            stream = TRANSPORTS[self.transport](self.shared.server.port, "/v3/watch", self.watch.request())
            self.resumed += 1
            while not self.is_done() and life == self.shared.life:
                try:
                    message = stream.next(0.2)
                except TimeoutError:
                    continue
                if message is None:
                    return
                now = time.monotonic()
                for event in self.watch.take(result_of(message)):
                    promise = self.shared.promises.get(event.key)
                    if event.kind == "DELETE" and promise:
                        promise.is_gone(now)
        except BROKEN:
            time.sleep(0.01)  # a life that is just ending
        finally:
            if stream:
                stream.close(polite=False)


# ---------------------------------------------------------------- the load

class Worker(threading.Thread):
    """Works until the connection breaks."""

    def __init__(self, shared, number):
        super().__init__(daemon=True)
        self.shared, self.number = shared, number
        self.random = random.Random("%d %d %s" % (shared.options.seed, shared.life, number))
        self.gateway = Gateway(shared.server.port)
        self.killed = threading.Event()

    def run(self):
        try:
            while True:
                self.step()
        except BROKEN as error:
            if not self.killed.wait(5):
                self.shared.failures.append("the connection broke before the kill: %r" % error)
        except Failure as error:
            self.shared.failures.append(str(error))
        finally:
            self.gateway.close()

    def step(self):
        raise NotImplementedError

    def put_body(self, key, value):
        self.shared.sent.add((key, value))
        return {"key": b64(key), "value": b64(value)}


class Writer(Worker):
    def __init__(self, shared, number):
        super().__init__(shared, number)
        self.count = 0

    def key(self):
        return b"w/%d/%d" % (self.number, self.random.randrange(30))

    def value(self):
        self.count += 1
        size = 20000 if self.random.random() < 0.02 else 20
        return b"%d.%d.%d." % (self.shared.life, self.number, self.count) + b"x" * size

    def step(self):
        kind = self.random.random()
        if kind < 0.7:
            self.put()
        elif kind < 0.85:
            self.put_several()
        elif kind < 0.99:
            self.delete()
        else:
            self.compact()

    def put(self):
        key, value = self.key(), self.value()
        self.shared.acknowledge(self.gateway.must("kv/put", self.put_body(key, value)), {key: value})

    def put_several(self):
        changes = {self.key(): self.value() for _ in range(4)}
        puts = [{"request_put": self.put_body(key, value)} for key, value in changes.items()]
        self.shared.acknowledge(self.gateway.must("kv/txn", {"success": puts}), changes)

    def delete(self):
        key = self.key()
        answer = self.gateway.must("kv/deleterange", {"key": b64(key)})
        if int(answer.get("deleted", 0)):
            self.shared.acknowledge(answer, {key: None})

    def compact(self):
        """Behind all who watch or read history."""
        if self.number != 0:
            return
        positions = [watcher.watch.position for watcher in self.shared.watchers]
        revision = min(self.shared.history.revision, *positions) - COMPACT_DISTANCE
        if revision > self.shared.compacted:
            status, answer = self.gateway.call("kv/compaction", {"revision": str(revision)})
            expect(status == 200 or answer.get("code") == 11, "compaction answered %s %s", status, answer)
            self.shared.compacted = revision


class Holder(Worker):
    """Of leases, which it renews, revokes or lets expire."""

    def __init__(self, shared, number, promises):
        super().__init__(shared, "holder %d" % number)
        self.promises = promises  # its own, from life to life

    def step(self):
        kind = self.random.random()
        if len(self.promises) < LEASES_A_HOLDER or kind < 0.05:
            self.grant()
        promise = self.random.choice(self.promises)
        if kind < 0.5:
            self.renew(promise)
        elif kind < 0.9:
            self.ask(promise)
        elif promise.ttl != LONG_TTL_SEC or self.random.random() < 0.1:
            self.revoke(promise)
        if promise.gone is not None and promise.acknowledged_end:
            self.promises.remove(promise)

    def grant(self):
        promise = Promise(next(self.shared.numbers), self.random.choice((2, 2, 3, 4, LONG_TTL_SEC)))
        before = time.monotonic()
        answer = self.gateway.must("lease/grant", {"ID": promise.id, "TTL": str(promise.ttl)})
        expect(answer["ID"] == promise.id and answer["TTL"] == str(promise.ttl), "granted %s", answer)
        promise.sent = before
        self.shared.promises[promise.key] = promise
        self.promises.append(promise)
        body = {**self.put_body(promise.key, promise.id.encode()), "lease": promise.id}
        status, answer = self.gateway.call("kv/put", body)
        if status == 404:  # it took so long
            promise.is_gone(time.monotonic())
            promise.check()
            return
        expect(status == 200, "put answered %s %s", status, answer)
        promise.attached = True
        self.shared.acknowledge(answer, {promise.key: promise.id.encode()})

    def renew(self, promise):
        before = time.monotonic()
        answer = result_of(self.gateway.must("lease/keepalive", {"ID": promise.id}))
        if "TTL" in answer:
            expect(answer["TTL"] == str(promise.ttl), "renewed for %s", answer)
            expect(not promise.acknowledged_end, "lease %s lives again", promise.id)
            promise.sent = before
        else:
            self.is_over(promise)

    def ask(self, promise):
        status, answer = self.gateway.call("lease/timetolive", {"ID": promise.id, "keys": True})
        now = time.monotonic()
        expect(status == 200, "timetolive answered %s %s", status, answer)
        left = int(answer.get("TTL", 0))
        if left < 0:
            self.is_over(promise)
            return
        if promise.revoked:
            expect(not promise.acknowledged_end, "lease %s lives again", promise.id)
            return
        expect(int(answer["grantedTTL"]) == promise.ttl, "granted for %s", answer)
        # What is left is said in whole seconds, rounded down.
        expect(promise.ends() - now - 1 < left <= promise.ttl, "%d s of lease %s are left, promised were %.3f",
               left, promise.id, promise.ends() - now)
        if promise.attached and left > 0:
            expect(answer.get("keys") == [b64(promise.key)], "lease %s has the keys %s", promise.id,
                   answer.get("keys"))

    def revoke(self, promise):
        promise.revoked = True
        status, answer = self.gateway.call("lease/revoke", {"ID": promise.id})
        expect(status in (200, 404), "revoke answered %s %s", status, answer)
        self.is_over(promise)

    def is_over(self, promise):
        promise.is_gone(time.monotonic())
        promise.acknowledged_end = True
        promise.check()


# ---------------------------------------------------------------- after each restart

def read_history(shared):
    """Reads what came through the crash, and returns the newest revision."""
    gateway = shared.server.gateway()
    newest = revision_of(gateway.must("kv/range", {"key": b64("w")}))
    expect(newest >= shared.highest, "the revision went back from %d to %d", shared.highest, newest)
    while shared.history.revision < newest:
        shared.history.read(gateway, newest)
    found = {}
    answer = gateway.must("kv/range", {**span_of(*ALL), "revision": str(newest)})
    now = time.monotonic()
    for kv in answer.get("kvs", []):
        found[pair_of(kv).key] = pair_of(kv)
    gateway.close()
    expect(found == shared.history.state, "two ways to read revision %d differ", newest)
    shared.highest = newest
    for promise in shared.promises.values():
        if promise.attached and promise.key not in found:
            promise.is_gone(now)
        expect(not (promise.acknowledged_end and promise.key in found), "lease %s ended, its key is there",
               promise.id)
    return newest


def check_history(shared, since, newest):
    """That the revisions after 'since' are what was asked for."""
    for revision in range(since + 1, newest + 1):
        put, gone = shared.history.changes[revision]
        for pair in put:
            expect((pair.key, pair.value) in shared.sent, "nobody wrote %s", pair)
        wanted = shared.acknowledged.get(revision)
        if wanted is not None:
            got = {**{pair.key: pair.value for pair in put}, **{key: None for key in gone}}
            expect(got == wanted, "revision %d was acknowledged as %.300s and is %.300s", revision, wanted, got)
    for promise in shared.promises.values():
        promise.check()


def watch_and_check(shared):
    since = shared.history.revision
    told = max(watcher.watch.position for watcher in shared.watchers)
    # The watches look on from the first moment, and are told what they missed.
    shared.set_up(True)
    newest = read_history(shared)
    expect(told <= newest, "a watch was told of revision %d, the newest is %d", told, newest)
    check_history(shared, since, newest)


def run_life(shared, promises):
    """Checks, works and kills. The seconds the start took."""
    took = shared.server.start()
    watch_and_check(shared)
    workers = [Writer(shared, i) for i in range(WRITERS)]
    workers += [Holder(shared, i, promises[i]) for i in range(LEASE_HOLDERS)]
    for worker in workers:
        worker.start()
    time.sleep(shared.random.uniform(0.1, shared.options.life))  # until the kill
    shared.server.kill()
    shared.set_up(False)
    for worker in workers:
        worker.killed.set()
    for worker in workers:
        worker.join()
    expect(not shared.failures, "%s", "; ".join(shared.failures))
    return took


# ---------------------------------------------------------------- tests

def lives_end_by_the_kill_and_keep_their_word(shared):
    promises = [[] for _ in range(LEASE_HOLDERS)]
    slowest = 0.0
    for number in range(shared.options.rounds):
        took = run_life(shared, promises)
        slowest = max(slowest, took)
        print("life %d: up after %.2f s, revision %d, %d writes and %d leases so far" % (
            number + 1, took, shared.highest, len(shared.acknowledged), len(shared.promises)), flush=True)
    print("slowest start %.2f s" % slowest)
    shared.failed = False


def leases_end_when_nobody_renews_them(shared):
    expect(not shared.failed, "the lives before did not come to an end")
    shared.server.start()
    watch_and_check(shared)
    gateway = shared.server.gateway()
    for promise in shared.promises.values():
        if promise.ttl == LONG_TTL_SEC and promise.gone is None:
            expect(time.monotonic() > promise.ends() or promise.revoked or
                   int(gateway.must("lease/timetolive", {"ID": promise.id}).get("TTL", 0)) > 0,
                   "the long lease %s is gone", promise.id)
            promise.revoked = True
            gateway.call("lease/revoke", {"ID": promise.id})
    # What was granted and never acknowledged may have a long time too.
    for lease in gateway.must("lease/leases", {}).get("leases", []):
        answer = gateway.must("lease/timetolive", {"ID": lease["ID"]})
        if int(answer.get("grantedTTL", 0)) == LONG_TTL_SEC:
            gateway.call("lease/revoke", {"ID": lease["ID"]})
    poll(lambda: not gateway.must("lease/leases", {}).get("leases"), END_LIMIT_SEC, "the end of all leases")
    answer = gateway.must("kv/range", span_of(*prefix_span(LEASES)))
    expect("kvs" not in answer, "keys of leases are left: %.300s", answer)
    gateway.put(LEASES + b"last", "last")
    shared.sent.add((LEASES + b"last", b"last"))
    gateway.close()
    since = shared.history.revision
    check_history(shared, since, read_history(shared))


def watches_were_told_of_everything_once(shared):
    expect(not shared.failed, "the lives before did not come to an end")
    newest = shared.history.revision
    for watcher in shared.watchers:
        watcher.last = newest
    poll(lambda: shared.failures or all(watcher.is_done() for watcher in shared.watchers), END_LIMIT_SEC,
         "the end of the watches")
    shared.set_up(False, over=True)
    expect(not shared.failures, "%s", "; ".join(shared.failures))
    events, state = [], {}
    for revision in range(2, newest + 1):
        put, gone = shared.history.changes[revision]
        news = [Event("PUT", pair.key, revision, pair, state.get(pair.key)) for pair in put]
        news += [Event("DELETE", key, revision, None, state.pop(key)) for key in gone]
        state.update((pair.key, pair) for pair in put)
        events += sorted(news, key=lambda event: event.key)
    for watcher in shared.watchers:
        watch = watcher.watch
        # No key changes twice in a revision here; how they are in order within one is tested elsewhere.
        watch.events.sort(key=lambda event: (event.mod, event.key))
        watch.check(events)
        print("%s: %d events, resumed %d times" % (watch.name, len(watch.events), watcher.resumed))


TESTS = [lives_end_by_the_kill_and_keep_their_word, leases_end_when_nobody_renews_them,
         watches_were_told_of_everything_once]


def main():
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--life", type=float, default=3.0, help="the longest time until the kill, seconds")
    options = parser.parse_args()
    print("seed %d" % options.seed, flush=True)
    server = Server(options, name="keta-crash-streams")
    with server:
        shared = Shared(options, server)
        for watcher in shared.watchers:
            watcher.start()
        server.kill()
        return run_tests(TESTS, shared, server)


if __name__ == "__main__":
    sys.exit(main())
