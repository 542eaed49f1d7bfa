# SPDX-License-Identifier: Apache-2.0
"""What the benchmark measures of watches and leases: the part 'streams' of bench.py.

Everything here goes over HTTP/1.1 and WebSocket, to the server and, in the same
rounds, to etcd's gateway. doc/performance.md explains every row.
"""

import time

CONNECTIONS = 64
OTHER_KEYS = 500000000  # the first of the keys that are watched and never put
IDLE = 10000  # watches that nothing happens to
IDLE_STREAMS = 10  # where these share connections
BUSY = 1000  # watchers, where they are many and not idle
PACED_WATCH = 500  # puts a second, for the time from put to event
PACED_PUT = 2000  # and beside a watcher that catches up
PACED_EXPIRY = 500  # and while leases expire
FILL_SPAN = 100
LEASES = 100000
EXPIRING = 10000
EXPIRING_TTL = 8  # s: more than granting and attaching them takes
MIB = 1 << 20


class Streams:
    """One use: all parts, each adding its rows to the benchmark's table."""

    def __init__(self, bench):
        self.bench, self.args, self.programs = bench, bench.args, bench.programs
        self.short = self.args.seconds / 2

    def measure(self):
        for part in (self.fan_out, self.latency, self.keepalives, self.idle_memory, self.beside_idle,
                     self.catch_up, self.idle_leases, self.expiry):
            part()

    def peers(self):
        """The server and, if there is one, etcd."""
        return [self.programs.ketad()] + ([self.programs.etcd()] if self.args.etcd else [])

    def add(self, what, figures, key, unit, budget=None, more=True):
        """A row of our figure beside etcd's; the budget is about ours."""
        self.bench.beside(what, figures, key + " keta", key + " etcd", unit, "etcd", budget, more)

    def per_peer(self, title, work):
        """Work that is done once: too long for rounds, or too clear to need them."""
        figures = {}
        self.bench.say("\n" + title)
        for server in self.peers():
            try:
                got = work(server)
            except SystemExit as problem:
                if server.name == "keta":
                    raise
                got = {}  # etcd does not always tell 1,000 watches of one request that they are open
                self.bench.say("  " + str(problem))
            self.bench.say("  %s: %s" % (server.name, "  ".join("%s %.4g" % item for item in got.items())))
            figures.update({"%s %s" % (name, server.name): [figure] for name, figure in got.items()})
            server.close()
        return figures

    # ---- Events ----

    def fan(self, server, watchers, keys):
        def contest():
            got = self.programs.watchers(server, watchers=watchers, keys=keys, seconds=self.short,
                                         connections=CONNECTIONS)
            return {"events " + server.name: got["events_rate"], "puts " + server.name: got["puts_rate"]}
        return contest

    def fan_out(self):
        """Events per second in sum, as fast as 64 writers put."""
        peers = self.peers()
        for watchers, keys in ((1, 1), (100, 1), (100, 100), (BUSY, 1), (BUSY, BUSY)):
            whose = "" if watchers == 1 else ", one key" if keys == 1 else ", a key each"
            what = "{:,} watcher{}{}".format(watchers, "s" if watchers > 1 else "", whose)
            figures = self.bench.rounds("Events per second in sum: " + what, peers, {
                server.name: self.fan(server, watchers, keys) for server in peers})
            self.add("events, " + what, figures, "events", "/s",
                     1e6 if watchers == BUSY and keys == 1 else None)
            self.add("puts, " + what, figures, "puts", "/s")
        for server in peers:
            server.close()

    def latency(self):
        """From just before a put is sent until its event is there."""
        peers = self.peers()

        def contest(server):
            got = self.programs.watchers(server, rate=PACED_WATCH, seconds=self.args.seconds)
            return {"median " + server.name: got["median_us"], "p99 " + server.name: got["p99_us"]}
        figures = self.bench.rounds("Microseconds from put to event, %d puts/s" % PACED_WATCH, peers, {
            server.name: lambda server=server: contest(server) for server in peers})
        what = "put to event at %d puts/s" % PACED_WATCH
        self.add(what + ", median", figures, "median", "us", more=False)
        self.add(what + ", p99", figures, "p99", "us", more=False)
        for server in peers:
            server.close()

    # ---- Leases renewed ----

    def keepalives(self):
        """Renewals per second: a request each, and frames of a WebSocket."""
        peers, contests, leases = self.peers(), {}, 1000
        for server in peers:
            self.programs.load(server, "grant", requests=leases, ttl=3600)
            contests["POST " + server.name] = self.bench.run(server, "keepalive", "rate", keys=leases,
                                                             seconds=self.short)
            for sockets in (1, 8):
                def frames(server=server, sockets=sockets):
                    return self.programs.frames(server, connections=sockets, keys=leases,
                                                seconds=self.short)["rate"]
                contests["%d WS %s" % (sockets, server.name)] = frames
        figures = self.bench.rounds("Keep-alives per second", peers, contests)
        self.add("keep-alives, %d connections" % CONNECTIONS, figures, "POST", "/s")
        self.add("keep-alives, 1 WebSocket", figures, "1 WS", "/s")
        self.add("keep-alives, 8 WebSockets", figures, "8 WS", "/s")
        for server in peers:
            server.close()

    # ---- Watches that nothing happens to ----

    def hold(self, server, watchers, streams=None):
        options = {} if streams is None else {"streams": streams}
        return self.programs.watching(server, "hold", watchers=watchers, keys=watchers, first=OTHER_KEYS,
                                      **options)

    def grown_mib(self, server, streams=None):
        """What the watches make the server grow by."""
        self.programs.load(server, "put", requests=1000)
        before = server.memory_bytes()
        held = self.hold(server, IDLE, streams)
        grown = server.memory_bytes() - before
        held.end()
        return grown / MIB

    def idle_memory(self):
        """The memory that they take, on connections of their own and together."""
        for what, key, streams, budget in ((", a connection each", "own", None, 100),
                                           (" in %d streams" % IDLE_STREAMS, "shared", IDLE_STREAMS, None)):
            what = "{:,} idle watches{}".format(IDLE, what)
            figures = self.per_peer("Memory of " + what, lambda server, streams=streams, key=key: {
                key: self.grown_mib(server, streams)})
            self.add("memory of " + what, figures, key, "MiB", budget, more=False)

    def beside_idle(self):
        """What they cost others."""
        counts = (0, BUSY, IDLE)
        servers = [self.programs.ketad() for _ in counts]
        held = [self.hold(server, count) for server, count in zip(servers, counts) if count > 0]
        figures = self.bench.rounds("Puts per second beside so many watchers of other keys", servers, {
            "%d" % count: self.bench.run(server, "put", "rate") for server, count in zip(servers, counts)})
        for count in counts[1:]:
            self.bench.compare("beside {:,} watchers of other keys: put".format(count), figures, "%d" % count,
                               "0", "/s", "without", 1 / 1.1)
        for watching in held:
            watching.end()
        for server in servers:
            server.close()

    # ---- The past ----

    def catch_up(self):
        """What a watcher that starts at revision 1 does to the puts of others."""
        keta, keys = self.programs.ketad(), self.args.keys
        self.bench.say("\nCatching up")
        self.bench.timed("{:,} keys put".format(keys), self.programs.load, keta, "fill", connections=4,
                         keys=keys, span=FILL_SPAN, requests=-(-keys // FILL_SPAN))
        options = {"rate": PACED_PUT, "seconds": self.args.seconds, "connections": CONNECTIONS}

        def paced(name):
            got = self.programs.load(keta, "put", **options)
            return {"median " + name: got["median_us"], "p99 " + name: got["p99_us"]}

        def alone():
            keta.settle()
            return paced("alone")

        def beside():
            watch = self.programs.watching(keta, "follow", keys=keys, events=keys, again=True, **{"from": 1})
            got = paced("beside")
            return {**got, "events": watch.end()["events_rate"]}
        figures = self.bench.rounds("Microseconds of a put beside a watcher that catches up", [keta], {
            "alone": alone, "beside": beside})
        what = "beside a watcher catching up: put at {:,}/s".format(PACED_PUT)
        for which in ("median", "p99"):
            self.bench.compare("%s, %s" % (what, which), figures, which + " beside", which + " alone", "us",
                               "without", 1.5, False)
        self.bench.beside("events to the watcher catching up", figures, "events", None, "/s")
        keta.close()

    # ---- Leases that wait, and leases that end ----

    def idle_leases(self):
        """The CPU that leases take when nothing is done with them."""
        def work(server):
            before = server.memory_bytes()
            granted = self.programs.load(server, "grant", requests=LEASES, ttl=3600, connections=CONNECTIONS)
            server.settle()
            memory = (server.memory_bytes() - before) / MIB
            cpu, begun = server.cpu_seconds(), time.monotonic()
            time.sleep(3)
            share = (server.cpu_seconds() - cpu) / (time.monotonic() - begun)
            return {"granted": granted["rate"], "MiB": memory, "idle": share * 100}
        figures = self.per_peer("{:,} leases".format(LEASES), work)
        what = "{:,} leases".format(LEASES)
        self.add(what + ", granted", figures, "granted", "/s")
        self.add(what + ", memory", figures, "MiB", "MiB", more=False)
        self.add(what + ", CPU when idle", figures, "idle", "% of a core", 1, more=False)

    def expiry(self):
        """Very many leases that end together, each with a key: when the last key is gone, and what
        the puts of others notice."""
        first = OTHER_KEYS

        def work(server):
            options = {"requests": EXPIRING, "first": first, "connections": CONNECTIONS}
            granted = self.programs.load(server, "grant", ttl=EXPIRING_TTL, **options)
            self.programs.load(server, "attach", **options)
            due = granted["ended"] + EXPIRING_TTL
            watch = self.programs.watching(server, "follow", first=first, keys=EXPIRING, events=EXPIRING)
            time.sleep(max(0, due - 1 - granted["seconds"] - time.monotonic()))
            puts = self.programs.load(server, "put", rate=PACED_EXPIRY, seconds=3 + granted["seconds"],
                                      connections=CONNECTIONS)
            last = watch.wait()["last"]
            return {"late": last - due, "put": puts["max_us"] / 1000}
        figures = self.per_peer("{:,} leases expire".format(EXPIRING), work)
        what = "{:,} leases expire".format(EXPIRING)
        self.add(what + ", the last is late by", figures, "late", "s", more=False)
        self.add(what + ", longest of %d puts/s" % PACED_EXPIRY, figures, "put", "ms", more=False)
