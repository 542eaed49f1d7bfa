#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Thousands of clients with streams that stall, half-close, break off and vanish,
beside some that behave; afterwards nothing of them may be left in the server.

    stream_clients.py [--etcd] [--clients N] [--waves N] [--seed N] [--any-memory] SERVER

In each wave all clients connect, over HTTP and WebSocket, for watches and
keep-alives. While large values are written that many of them do not read, the
others must get theirs, in time and in order. Then all go. The server must have
as few descriptors as before the first wave, no watch, hardly more memory after
the last wave than after the first, and work as ever."""

import asyncio
import itertools
import json
import os
import random
import resource
import socket
import struct
import sys
import time

import websocket
from gateway import (HOST, Failure, Lines, Server, TRANSPORTS, arguments, b64, expect, poll, result_of,
                     revision_of, run_tests)

BIG_VALUE = "v" * 65536
BIG_PUTS = 100
WARM_PUTS = 1000
SMALL_KEYS = 50
SMALL_PUTS_A_SEC = 100
TICK_LIMIT_SEC = 5         # how late a watch that reads may hear of a put, whatever others do
OPEN_LIMIT_SEC = 60
END_LIMIT_SEC = 60
PEAK_GROWTH_MIB = 128      # with all clients there; those that stall alone were sent several times that
WAVE_GROWTH_MIB = 8        # from one wave to the next: a leak of 4 KiB a client shows
TOTAL_GROWTH_MIB = 48
ETCD_DESCRIPTORS = 8       # that it may have more, in its own connections


class Gone(Exception):
    """The server has ended the connection."""


class Client:
    """One connection with a stream, over either transport."""

    def __init__(self, wave, transport, path, body):
        self.wave, self.transport, self.path, self.body = wave, transport, path, body
        self.frames = websocket.Frames()
        self.head = b""
        self.lines = None  # of an answer over HTTP, after its head
        self.reader = self.writer = None

    def opening(self, held=False):
        """The bytes that open the stream. 'held': the request's body does not end."""
        data = json.dumps(self.body).encode()
        if self.transport == "websocket":
            return websocket.handshake("%s:%d" % (HOST, self.wave.port), self.path)[0]
        head = "POST %s HTTP/1.1\r\nHost: %s:%d\r\n" % (self.path, HOST, self.wave.port)
        if held:
            return head.encode() + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(data), data)
        return head.encode() + b"Content-Length: %d\r\n\r\n%s" % (len(data), data)

    async def connect(self):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.setblocking(False)
        try:
            async with self.wave.connecting:
                await asyncio.get_running_loop().sock_connect(sock, (HOST, self.wave.port))
        except OSError:
            sock.close()
            raise
        self.reader, self.writer = await asyncio.open_connection(sock=sock, limit=32768)

    async def open(self):
        await self.connect()
        self.writer.write(self.opening())
        if self.transport == "websocket":
            await self.read_head(101)
            self.send(self.body)

    async def read_head(self, status):
        while b"\r\n\r\n" not in self.head:
            self.head += await self.read()
        head, rest = self.head.split(b"\r\n\r\n", 1)
        found, headers = websocket.parse_head(head)
        expect(found == status, "%s answered %d %r", self.path, found, rest[:200])
        if self.transport == "http":
            self.lines = Lines(headers)
        (self.lines or self.frames).feed(rest)

    def send(self, body):
        self.writer.write(websocket.frame(websocket.TEXT, json.dumps(body).encode()))

    async def read(self):
        try:
            data = await self.reader.read(65536)
        except ConnectionError:
            data = b""
        if not data:
            raise Gone()
        return data

    async def next(self):
        """The next message's result."""
        if self.transport == "websocket":
            while True:
                message = self.frames.next()
                if message is None:
                    self.frames.feed(await self.read())
                elif message[0] == websocket.TEXT:
                    return result_of(json.loads(message[1]))
                elif message[0] == websocket.CLOSE:
                    raise Gone()
                elif message[0] == websocket.PING:
                    self.writer.write(websocket.frame(websocket.PONG, message[1]))
        if self.lines is None:
            await self.read_head(200)
        while not self.lines.lines:
            if self.lines.ended:
                raise Gone()
            self.lines.feed(await self.read())
        return result_of(json.loads(self.lines.lines.pop(0)))

    def half_close(self):
        self.writer.write_eof()

    def close(self):
        if self.writer:
            self.writer.close()

    def vanish(self):
        """Without a word: the server sees a reset."""
        if self.writer:
            sock = self.writer.get_extra_info("socket")
            if sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()


class Wave:
    """The clients of one wave, and what they wait for."""

    def __init__(self, server, count, seed, leases):
        self.server, self.port, self.count = server, server.port, count
        self.random = random.Random(seed)
        self.leases = leases
        self.connecting = asyncio.Semaphore(100)
        self.open_count = self.stalled_count = 0
        self.written = asyncio.Event()   # the large values have been
        self.finish = asyncio.Event()
        self.big_revisions = []
        self.last_small = {}             # key: revision of its newest put
        self.messages = 0
        self.latest_sec = 0.0
        self.peak_kib = 0

    def transport(self):
        return self.random.choice(sorted(TRANSPORTS))

    def small_key(self):
        return "small/%d" % self.random.randrange(SMALL_KEYS)

    def watch(self, key, transport=None):
        return Client(self, transport or self.transport(), "/v3/watch", {"create_request": {"key": b64(key)}})

    def keep_alive(self, transport=None):
        return Client(self, transport or self.transport(), "/v3/lease/keepalive",
                      {"ID": self.random.choice(self.leases)})

    # Ways to behave. Each runs until wave.finish at the latest.

    async def reads(self):
        """A watch that must be told of every put of its key, in order."""
        key = self.small_key()
        client = self.watch(key)
        try:
            await client.open()
            start = seen = revision_of(await client.next())
            self.open_count += 1
            while not (self.finish.is_set() and seen >= self.last_small.get(key, 0)):
                try:
                    result = await asyncio.wait_for(client.next(), 1)
                except asyncio.TimeoutError:
                    continue
                self.messages += 1
                for event in result["events"]:
                    revision = int(event["kv"]["mod_revision"])
                    expect(revision > seen, "%s: told of %d after %d, from %d on", key, revision, seen, start)
                    seen = revision
        except Gone:
            raise Failure("a watch was ended by the server") from None
        finally:
            client.close()

    async def renews(self):
        """Keep-alives, over one WebSocket or by one request after the other."""
        client = self.keep_alive()
        self.open_count += 1
        try:
            if client.transport == "websocket":
                await client.open()
            while not self.finish.is_set():
                if client.transport == "websocket":
                    result = await client.next()
                    client.send(client.body)
                else:
                    client.close()
                    client = self.keep_alive("http")
                    await client.open()
                    result = await client.next()
                expect(int(result["TTL"]) > 0, "a lease is lost: %s", result)
                self.messages += 1
                await self.pause(1)
        except Gone:
            raise Failure("a keep-alive was ended by the server") from None
        finally:
            client.close()

    async def stalls(self):
        """Stops to read, while large values are written; what it does then differs."""
        client = self.watch("big")
        try:
            await client.open()
            await client.next()
            self.open_count += 1
            self.stalled_count += 1
            await self.written.wait()
            kind = self.random.random()
            if kind < 0.1:
                await self.catch_up(client)
            elif kind < 0.4:
                client.half_close()
                await self.pause(2)
            elif kind < 0.7:
                await self.pause(2)
                client.vanish()
        except Gone:
            raise Failure("a watch that stalled was ended by the server") from None
        finally:
            client.close()

    async def catch_up(self, client):
        seen = []
        while len(seen) < len(self.big_revisions):
            result = await asyncio.wait_for(client.next(), END_LIMIT_SEC)
            seen += [int(event["kv"]["mod_revision"]) for event in result["events"]]
        expect(seen == self.big_revisions, "one that stalled was told of %s, not of %s", seen, self.big_revisions)

    async def half_closes(self):
        """Sends no more, and reads on."""
        client = self.watch(self.small_key()) if self.random.random() < 0.7 else self.keep_alive("websocket")
        try:
            await client.open()
            await client.next()
            self.open_count += 1
            client.half_close()
            while not self.finish.is_set():
                # The server may go on, end it, or say that it is canceled.
                await asyncio.wait_for(client.read(), 0.5)
        except (Gone, ConnectionError, asyncio.TimeoutError):
            pass
        finally:
            client.close()

    async def vanishes(self):
        """Again and again, sooner or later after it connected."""
        self.open_count += 1
        while not self.finish.is_set():
            client = self.watch(self.small_key()) if self.random.random() < 0.7 else self.keep_alive()
            try:
                await client.open()
                if self.random.random() < 0.7:
                    await client.next()
                await self.pause(3)
            except (Gone, ConnectionError):
                pass  # a keep-alive over HTTP ends with its answer
            finally:
                client.vanish()

    async def breaks_off(self):
        """In the middle of what it sends."""
        self.open_count += 1
        while not self.finish.is_set():
            client = self.watch(self.small_key()) if self.random.random() < 0.7 else self.keep_alive()
            try:
                await client.connect()
                if client.transport == "websocket" and self.random.random() < 0.7:
                    client.writer.write(client.opening())
                    await client.read_head(101)
                    data = websocket.frame(websocket.TEXT, json.dumps(client.body).encode())
                else:
                    data = client.opening(held=self.random.random() < 0.5)
                client.writer.write(data[:self.random.randrange(len(data) + 1)])
                await self.pause(3)
                if self.random.random() < 0.3:
                    client.half_close()
                    await self.pause(1)
            except (Gone, ConnectionError):
                pass
            finally:
                (client.vanish if self.random.random() < 0.5 else client.close)()

    async def pause(self, at_most_sec):
        """What a client does in between; the end of the wave ends it."""
        try:
            await asyncio.wait_for(self.finish.wait(), self.random.random() * at_most_sec)
        except asyncio.TimeoutError:
            pass

    # What goes on beside.

    async def put_small(self):
        """Puts that some watch hears of; one of them measures how long that takes."""
        gateway = self.server.gateway()
        try:
            for number in itertools.count():
                if self.finish.is_set():
                    return
                key = self.small_key()
                self.last_small[key] = await asyncio.to_thread(gateway.put, key, str(number))
                await asyncio.sleep(1 / SMALL_PUTS_A_SEC)
        finally:
            gateway.close()

    async def watch_ticks(self):
        """One client that puts and waits for the event, all the time."""
        gateway = self.server.gateway()
        client = self.watch("tick", "websocket")
        try:
            await client.open()
            await client.next()
            for number in itertools.count():
                if self.finish.is_set():
                    return
                started = time.monotonic()
                await asyncio.to_thread(gateway.put, "tick", str(number))
                await asyncio.wait_for(client.next(), TICK_LIMIT_SEC)
                self.latest_sec = max(self.latest_sec, time.monotonic() - started)
                await self.pause(0.2)
        except (Gone, asyncio.TimeoutError):
            raise Failure("a watch that reads was not told within %d s" % TICK_LIMIT_SEC) from None
        finally:
            client.close()
            gateway.close()

    async def measure(self):
        while not self.finish.is_set():
            self.peak_kib = max(self.peak_kib, anonymous_kib(self.server))
            await self.pause(0.2)

    async def put_big(self):
        gateway = self.server.gateway()
        try:
            for _ in range(BIG_PUTS):
                self.big_revisions.append(await asyncio.to_thread(gateway.put, "big", BIG_VALUE))
        finally:
            gateway.close()

    async def run(self):
        ways = [(35, self.reads), (10, self.renews), (15, self.stalls), (10, self.half_closes), (15, self.vanishes),
                (15, self.breaks_off)]
        chosen = self.random.choices([way for _, way in ways], [share for share, _ in ways], k=self.count)
        beside = [asyncio.create_task(task()) for task in (self.put_small, self.watch_ticks, self.measure)]
        clients = [asyncio.create_task(way()) for way in chosen]
        direct = asyncio.create_task(self.direct())
        done, _ = await asyncio.wait([direct, *beside, *clients], return_when=asyncio.FIRST_EXCEPTION,
                                     timeout=OPEN_LIMIT_SEC + 2 * END_LIMIT_SEC)
        left = [task for task in [direct, *beside, *clients] if not task.done()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for task in done:
            task.result()
        expect(not left, "%d clients did not come to an end", len(left))

    async def direct(self):
        deadline = time.monotonic() + OPEN_LIMIT_SEC
        while self.open_count < self.count:
            expect(time.monotonic() < deadline, "%d of %d clients got their stream in %d s", self.open_count,
                   self.count, OPEN_LIMIT_SEC)
            await asyncio.sleep(0.05)
        self.watchers = await asyncio.to_thread(gauge, self.server, "etcd_debugging_mvcc_watcher_total")
        await self.put_big()
        self.written.set()
        await asyncio.sleep(3)  # in which the clients do their worst
        self.finish.set()


# ---------------------------------------------------------------- the server's side

def anonymous_kib(server):
    with open("/proc/%d/status" % server.process.pid) as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))


def descriptors(server):
    return len(os.listdir("/proc/%d/fd" % server.process.pid))


def gauge(server, name):
    gateway = server.gateway()
    status, text = gateway.get("/metrics")
    gateway.close()
    values = [float(line.split()[1]) for line in text.splitlines() if line.startswith(name + " ")]
    expect(status == 200 and len(values) == 1, "no metric %s", name)
    return values[0]


def put_and_watch(server):
    """What a client does that wants nothing special."""
    for transport, kind in TRANSPORTS.items():
        gateway = server.gateway()
        stream = kind(server.port, "/v3/watch", {"create_request": {"key": b64("plain")}})
        expect(result_of(stream.next(20)).get("created"), "no watch over %s", transport)
        revision = gateway.put("plain", transport)
        events = result_of(stream.next(20))["events"]
        expect([int(event["kv"]["mod_revision"]) for event in events] == [revision], "told of %s", events)
        stream.close()
        gateway.close()


def fill_caches(server):
    """So that what the database keeps in memory is no news to the first wave:
    writes, and reads back, more than that is."""
    gateway = server.gateway()
    for _ in range(WARM_PUTS):
        last = gateway.put("warm", BIG_VALUE)
    gateway.close()
    stream = TRANSPORTS["http"](server.port, "/v3/watch",
                                {"create_request": {"key": b64("warm"), "start_revision": "1"}})
    seen = 0
    while seen < last:
        seen = max([seen] + [int(event["kv"]["mod_revision"]) for event in result_of(stream.next(20)).get("events", [])])
    stream.close()


def nothing_is_left(server):
    left = {name: gauge(server, name) for name in ("etcd_debugging_mvcc_watcher_total",
                                                   "etcd_debugging_mvcc_watch_stream_total")}
    return not any(left.values())


# ---------------------------------------------------------------- tests

class Run:
    def __init__(self, options, server):
        self.options, self.server = options, server
        self.memory = []  # KiB: before, and after each wave
        self.descriptors = 0  # before
        # etcd's garbage collector takes its time, and sanitizers keep what is freed.
        self.bounded = not options.etcd and not options.any_memory
        self.slack = ETCD_DESCRIPTORS if options.etcd else 0


def waves_of_clients_come_and_go_without_a_trace(run):
    gateway = run.server.gateway()
    leases = [gateway.must("lease/grant", {"TTL": "600"})["ID"] for _ in range(20)]
    gateway.close()
    fill_caches(run.server)
    put_and_watch(run.server)
    poll(lambda: nothing_is_left(run.server), END_LIMIT_SEC, "the end of the first watches")
    run.descriptors = descriptors(run.server)
    run.memory.append(anonymous_kib(run.server))
    for number in range(run.options.waves):
        wave = Wave(run.server, run.options.clients, "%d %d" % (run.options.seed, number), leases)
        asyncio.run(wave.run())
        poll(lambda: nothing_is_left(run.server), END_LIMIT_SEC, "the end of all watches", 0.2)
        poll(lambda: descriptors(run.server) <= run.descriptors + run.slack, END_LIMIT_SEC,
             "%d descriptors again" % run.descriptors, 0.2)
        run.memory.append(anonymous_kib(run.server))
        print("wave %d: %d watchers, %d stalled, %d messages read, slowest tick %.2f s, memory %d MiB, at most %d MiB"
              % (number + 1, wave.watchers, wave.stalled_count, wave.messages, wave.latest_sec,
                 run.memory[-1] >> 10, wave.peak_kib >> 10), flush=True)
        expect(wave.watchers >= wave.stalled_count, "the metric counted %d watchers", wave.watchers)
        if run.bounded:
            expect(wave.peak_kib - run.memory[0] < PEAK_GROWTH_MIB << 10, "memory is not bounded")


def memory_is_given_back(run):
    expect(len(run.memory) == 1 + run.options.waves, "the waves did not come to an end")
    print("memory in MiB before and after the waves: %s" % ", ".join("%.1f" % (kib / 1024) for kib in run.memory))
    if run.bounded:
        expect(run.memory[-1] - run.memory[1] < WAVE_GROWTH_MIB << 10, "a wave leaves memory behind")
        expect(run.memory[-1] - run.memory[0] < TOTAL_GROWTH_MIB << 10, "the waves leave memory behind")


def the_server_works_as_before(run):
    put_and_watch(run.server)


TESTS = [waves_of_clients_come_and_go_without_a_trace, memory_is_given_back, the_server_works_as_before]


def main():
    parser = arguments(__doc__)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--waves", type=int, default=2)
    parser.add_argument("--any-memory", action="store_true", help="for a build with sanitizers")
    options = parser.parse_args()
    print("seed %d" % options.seed, flush=True)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server = Server(options, name="keta-stream-clients")
    with server:
        return run_tests(TESTS, Run(options, server), server)


if __name__ == "__main__":
    sys.exit(main())
