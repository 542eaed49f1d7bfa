#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stops a server in the middle of everything: clients that wait for a lock and
for an office, streams of every kind, one that reads slowly and one that reads
nothing. It must end soon and well, tell each client that can hear it, and come
back with the data and with what was left of the leases.

    stop.py SERVER"""

import os
import sys
import threading
import time

from gateway import (BROKEN, Failure, Gateway, HttpStream, Server, WebSocketStream, arguments, b64, expect, poll,
                     result_of, run_tests, unb64)

STOP_SEC = 3             # within which a stop must be over
ANSWER_SEC = 5           # within which a client must have been told
GOING_AWAY = 1001
UNAVAILABLE = 14
TTL_SEC, HELD_TTL_SEC = 600, 300
BACKLOG_PUTS, BACKLOG_BYTES = 60, 200000
KEYS = [b"data/%d" % i for i in range(100)]


class Waiting(threading.Thread):
    """A call that is to be answered by the stop."""

    def __init__(self, port, method, body):
        super().__init__(daemon=True)
        self.gateway, self.method, self.body = Gateway(port), method, body
        self.status = self.answer = self.error = None
        self.start()

    def run(self):
        try:
            self.status, self.answer = self.gateway.call(self.method, self.body)
        except BROKEN as error:
            self.error = error
        self.gateway.close()

    def expect_unavailable(self):
        self.join(ANSWER_SEC)
        expect(not self.is_alive(), "%s was not answered", self.method)
        expect(self.error is None, "%s lost its connection: %s", self.method, self.error)
        expect(self.status == 503 and self.answer.get("code") == UNAVAILABLE, "%s was answered %s %s", self.method,
               self.status, self.answer)


class Scene:
    """What is under way when the signal comes."""

    def __init__(self, server):
        self.server, self.port = server, server.port
        self.gateway = server.gateway()
        self.revision = 0
        self.took = None  # the stop's seconds

    def write(self):
        must = self.gateway.must
        must("lease/grant", {"ID": "7", "TTL": str(TTL_SEC)})
        must("lease/grant", {"ID": "8", "TTL": str(HELD_TTL_SEC)})
        self.granted = time.monotonic()
        for key in KEYS:
            self.gateway.put(key, key[::-1], lease="7")

    def wait_in_line(self):
        """A holder each, which is answered, and one who waits behind it."""
        self.waiting = []
        for method, body in (("lock/lock", {"name": b64("lock")}),
                             ("election/campaign", {"name": b64("office"), "value": b64("me")})):
            self.gateway.must(method, dict(body, lease="8"))
            self.waiting.append(Waiting(self.port, method, dict(body, lease="7")))
        for name in (b"lock/", b"office/"):
            poll(lambda name=name: self.count(name) == 2, 5, "those who wait in line")

    def count(self, prefix):
        answer = self.gateway.must("kv/range", {"key": b64(prefix), "range_end": b64(prefix[:-1] + b"0"),
                                                "count_only": True})
        return int(answer.get("count", 0))

    def open_streams(self):
        watch = {"create_request": {"key": b64("watched")}}
        big = {"create_request": {"key": b64("big")}}
        self.watch = HttpStream(self.port, "/v3/watch", watch)
        self.socket_watch = WebSocketStream(self.port, "/v3/watch", watch)
        self.keep_alive = WebSocketStream(self.port, "/v3/lease/keepalive", {"ID": "8"})
        self.observer = HttpStream(self.port, "/v3/election/observe", {"name": b64("office")})
        self.slow = HttpStream(self.port, "/v3/watch", big, receive_buffer=4096)
        self.stalled = WebSocketStream(self.port, "/v3/watch", big, receive_buffer=4096)
        for stream in (self.watch, self.socket_watch, self.keep_alive, self.observer, self.slow, self.stalled):
            result_of(stream.next(5))
        self.renewed = time.monotonic()

    def pile_up(self):
        """More than the sockets of the two who do not read can hold."""
        for _ in range(BACKLOG_PUTS):
            self.revision = self.gateway.put("big", os.urandom(BACKLOG_BYTES * 3 // 4))

    def prepare(self):
        self.write()
        self.wait_in_line()
        self.open_streams()
        self.pile_up()

    def read_slowly(self):
        """A bit now and then, until the server has gone; never all."""
        try:
            while self.slow.sock.recv(2048):
                time.sleep(0.05)
        except OSError:
            pass

    def stop(self):
        reader = threading.Thread(target=self.read_slowly, daemon=True)
        reader.start()
        begun = time.monotonic()
        self.server.stop()  # which expects the exit status to be 0
        self.took = time.monotonic() - begun
        self.stopped = time.monotonic()
        self.slow.close()
        reader.join(5)


def those_who_wait_in_line_are_told(scene):
    for waiting in scene.waiting:
        waiting.expect_unavailable()


def the_server_ends_soon_and_well(scene):
    expect(scene.took is not None, "it did not end with 0")
    print("it ended in %.1f s" % scene.took)
    expect(scene.took <= STOP_SEC, "it took %.1f s", scene.took)


def streams_over_http_end_whole(scene):
    for name, stream in (("watch", scene.watch), ("observer", scene.observer)):
        while stream.next(ANSWER_SEC) is not None:
            pass
        expect(stream.whole, "the answer of the %s has no last chunk", name)
        stream.close()


def streams_over_websocket_are_closed_as_going_away(scene):
    for name, stream in (("watch", scene.socket_watch), ("keep-alive", scene.keep_alive)):
        while stream.next(ANSWER_SEC) is not None:
            pass
        expect(stream.socket.close_code == GOING_AWAY, "the %s was closed with %s", name, stream.socket.close_code)
        stream.close()


def the_stalled_client_finds_what_was_sent_and_the_end(scene):
    count = 0
    try:
        while scene.stalled.next(ANSWER_SEC) is not None:
            count += 1
    except TimeoutError:
        raise Failure("after %d messages neither more nor an end" % count) from None
    expect(count < BACKLOG_PUTS, "it had no backlog")
    scene.stalled.close()


def after_a_restart_the_data_is_there(scene):
    scene.server.start()
    gateway = scene.server.gateway()
    for key in KEYS:
        kvs = gateway.must("kv/range", {"key": b64(key)}).get("kvs", [])
        expect(len(kvs) == 1 and unb64(kvs[0]["value"]) == key[::-1] and kvs[0]["lease"] == "7", "%s is %s", key, kvs)
    big = gateway.must("kv/range", {"key": b64("big")})["kvs"][0]
    expect(int(big["mod_revision"]) == scene.revision, "the last put is not there: %s", big["mod_revision"])
    gateway.close()


def leases_have_what_was_left_of_them(scene):
    gateway = scene.server.gateway()
    for lease, ttl, since in (("7", TTL_SEC, scene.granted), ("8", HELD_TTL_SEC, scene.renewed)):
        answer = gateway.must("lease/timetolive", {"ID": lease})
        used = scene.stopped - since
        left, most = int(answer["TTL"]), ttl - used + 2  # rounded up, and the clock's own steps
        expect(ttl - used - 30 <= left <= most, "of lease %s %d s are left, and %.1f s were used", lease, left, used)
    gateway.close()


def main():
    options = arguments(__doc__, seeded=False).parse_args()
    with Server(options, name="keta-stop") as server:
        scene = Scene(server)
        scene.prepare()
        time.sleep(2)  # that leases have less than their time
        try:
            scene.stop()
        except Failure as failure:
            print(failure, flush=True)
        return run_tests([the_server_ends_soon_and_well, those_who_wait_in_line_are_told, streams_over_http_end_whole,
                          streams_over_websocket_are_closed_as_going_away,
                          the_stalled_client_finds_what_was_sent_and_the_end, after_a_restart_the_data_is_there,
                          leases_have_what_was_left_of_them], scene, server)


if __name__ == "__main__":
    sys.exit(main())
