#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures the server beside the bare limits of what it is made of, and prints one table.

Machines change their speed from minute to minute, so no figure counts alone: what is
compared runs in turns, round by round, and the table's ratios are medians of the rounds'
ratios. doc/performance.md explains every row. 'make bench' runs this with the programs'
paths; ETCD=path in the environment adds etcd's gateway to the rounds.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time

from procs import Elsewhere, Programs, start
from streams import Streams

CONNECTIONS = 64
FILL_SPAN = 128  # puts in a transaction: the most that etcd takes by default
VERSIONS = 10
MIB = 1 << 20


class Row:
    """One line of the table. 'more' tells which way is good; no budget: for information. The
    budget is about the ratio, or about our figure where there is no ratio or it is 'absolute'."""

    def __init__(self, what, peer, theirs, ours, unit, ratio=None, budget=None, more=True, absolute=False):
        self.what, self.peer, self.theirs, self.ours, self.unit = what, peer, theirs, ours, unit
        self.ratio, self.budget, self.more, self.absolute = ratio, budget, more, absolute

    def judged(self):
        return self.ours if self.absolute or self.ratio is None else self.ratio

    def verdict(self):
        if self.budget is None:
            return ""
        good = self.judged() >= self.budget if self.more else self.judged() <= self.budget
        return "ok" if good else "MISSED"

    def cells(self):
        def number(value):
            return "" if value is None else "{:,.{}f}".format(value, 0 if value >= 100 else 2)
        budget = "" if self.budget is None else \
            ("≥ " if self.more else "≤ ") + number(self.budget).replace(".00", "")
        theirs = number(self.theirs) + (" (%s)" % self.peer if self.peer else "")
        ratio = "" if self.ratio is None else "%.2f" % self.ratio
        return [self.what, theirs, number(self.ours), self.unit, ratio, budget, self.verdict()]

    def as_json(self):
        names = ("what", "peer", "theirs", "ours", "unit", "ratio", "budget")
        return {**{name: getattr(self, name) for name in names}, "verdict": self.verdict()}


def median(values):
    return statistics.median(values)


def median_ratio(ours, theirs):
    return median([a / b for a, b in zip(ours, theirs)])


class Bench:
    def __init__(self, args):
        self.args = args
        self.rows, self.log = [], []
        self.programs = Programs(args)

    def say(self, text):
        print(text, flush=True)

    def begin(self):
        """Before the first part."""

    def end(self):
        """After the last one."""
        self.profile_missed()

    def rounds(self, title, servers, contests):
        """Runs the contests in turns. 'contests' maps a name to a function that returns a
        figure, or several by name. Returns the figures by name, one per round."""
        figures = {}
        self.say("\n%s" % title)
        echo = self.programs.echo()
        for number in range(self.args.rounds):
            elsewhere = Elsewhere(servers + [echo])
            limits = {"echo/s": self.programs.load(echo, "range", seconds=0.2)["rate"],
                      "fsync/s": self.programs.fsync_rate()}
            got = {}
            for name, contest in contests.items():
                result = contest()
                got.update(result if isinstance(result, dict) else {name: result})
            limits["elsewhere"] = elsewhere.share()
            self.say("  round %d: echo %.0f/s, fsync %.0f/s, other work %.0f %% | %s" % (
                number + 1, limits["echo/s"], limits["fsync/s"], limits["elsewhere"] * 100,
                "  ".join("%s %.4g" % item for item in got.items())))
            self.log.append({"part": title, **limits, **got})
            for name, figure in got.items():
                figures.setdefault(name, []).append(figure)
        echo.close()
        return figures

    def run(self, server, mode, figure, **options):
        """A contest: one run of the load generator."""
        options = {"connections": CONNECTIONS, "seconds": self.args.seconds, **options}
        return lambda: self.programs.load(server, mode, **options)[figure]

    def compare(self, what, figures, ours, theirs, unit, peer, budget=None, more=True):
        if theirs not in figures:
            return
        self.rows.append(Row(what, peer, median(figures[theirs]), median(figures[ours]), unit,
                             median_ratio(figures[ours], figures[theirs]), budget, more))

    def beside(self, what, figures, ours, theirs, unit, peer=None, budget=None, more=True):
        """As compare, but the peer may be missing, and the budget is about our figure alone."""
        ratio = None
        if theirs not in figures:
            peer = None
        elif all(figures[theirs]):
            ratio = median_ratio(figures[ours], figures[theirs])
        self.rows.append(Row(what, peer, None if peer is None else median(figures[theirs]),
                             median(figures[ours]), unit, ratio, budget, more, absolute=True))

    # ---- The parts ----

    def pinned(self):
        """CPU per request, with server and load on one core."""
        programs = self.programs
        echo, suspended = programs.echo(pinned=True), programs.echo(pinned=True, suspend=True)
        keta = programs.ketad(pinned=True)
        programs.load(keta, "put", requests=1000)
        sqlite = {"work": "put", "pinned": True, "batch": CONNECTIONS, "seconds": self.args.seconds}
        figures = self.rounds("CPU microseconds per request, pinned to one core", [echo, suspended, keta], {
            "echo": self.run(echo, "range", "cpu_us"),
            "range": self.run(keta, "range", "cpu_us"),
            "suspended": self.run(suspended, "range", "cpu_us"),
            "sqlite put": lambda: programs.sqlite(**sqlite)["cpu_us"],
            "put": self.run(keta, "put", "cpu_us"),
        })
        figures["limit"] = [1.5 * suspended_us + sqlite_us for suspended_us, sqlite_us in
                            zip(figures["suspended"], figures["sqlite put"])]
        self.compare("range of one key, CPU", figures, "range", "echo", "us", "echo", 2.5, False)
        self.compare("put, CPU", figures, "put", "limit", "us", "1.5 suspended + SQLite", 1, False)
        self.compare("put, CPU", figures, "put", "suspended", "us", "suspended echo")
        for server in (echo, suspended, keta):
            server.close()

    def peers(self):
        """The servers that are compared unpinned, each with the key that is read."""
        servers = [self.programs.trial(), self.programs.ketad()]
        if self.args.etcd:
            servers.append(self.programs.etcd())
        for server in servers:
            self.programs.load(server, "put", requests=1000)
        return servers

    def throughput(self):
        """Requests per second, not pinned, one key."""
        echo, peers = self.programs.echo(), self.peers()
        contests = {"echo": self.run(echo, "range", "rate"),
                    "SQLite read": lambda: self.programs.sqlite("snapshot", seconds=0.3)["rate"]}
        for server in peers:
            contests["range " + server.name] = self.run(server, "range", "rate")
            contests["mixed " + server.name] = self.run(server, "mixed", "rate")
        figures = self.rounds("Requests per second, %d connections" % CONNECTIONS, peers, contests)
        self.compare("range of one key", figures, "range keta", "echo", "/s", "echo", 0.4)
        self.compare("range of one key", figures, "range keta", "range trial", "/s", "trial")
        self.compare("range of one key", figures, "range keta", "range etcd", "/s", "etcd", 5)
        self.compare("range of one key", figures, "range keta", "SQLite read", "/s", "SQLite point read")
        self.compare("mixed 90/10", figures, "mixed keta", "mixed trial", "/s", "trial")
        self.compare("mixed 90/10", figures, "mixed keta", "mixed etcd", "/s", "etcd")
        for server in [echo] + peers:
            server.close()

    def puts(self):
        """Durable puts of one key, by the number of connections."""
        peers = self.peers()
        for connections in (1, 64, 512):
            def bare(off, batch=connections):
                options = {"off": True} if off else {}
                return self.programs.sqlite("put", batch=batch, seconds=self.args.seconds / 2, **options)["rate"]
            contests = {"SQLite": lambda: bare(False), "SQLite off": lambda: bare(True)}
            for server in peers:
                contests[server.name] = self.run(server, "put", "rate", connections=connections)
            figures = self.rounds("Puts per second, %d connections" % connections, peers, contests)
            what = "put, %d connections" % connections
            is_budget = connections == CONNECTIONS
            self.compare(what, figures, "keta", "trial", "/s", "trial", 0.7 if is_budget else None)
            self.compare(what, figures, "keta", "etcd", "/s", "etcd", 4 if is_budget else None)
            self.compare(what, figures, "keta", "SQLite", "/s", "SQLite, batch %d" % connections)
            self.compare(what, figures, "keta", "SQLite off", "/s", "same, synchronous=OFF")
        for server in peers:
            server.close()

    def timed(self, what, work, *args, **options):
        begun = time.monotonic()
        work(*args, **options)
        self.say("  %s: %.1f s" % (what, time.monotonic() - begun))

    def load_keys(self, server):
        """Every key once, by clients, in transactions."""
        keys = self.args.keys
        self.timed("{:,} keys put".format(keys), self.programs.load, server, "fill", connections=4, keys=keys,
                   span=FILL_SPAN, requests=-(-keys // FILL_SPAN),
                   **({"progress": True} if sys.stderr.isatty() else {}))

    def measure_large(self, keta):
        """What a server with very many keys takes; each figure a median."""
        args, programs = self.args, self.programs
        several = {"connections": 1, "requests": args.rounds}
        keys = "{:,} keys".format(args.keys)
        listed = min(100000, args.keys)
        add = self.rows.append

        list_100 = programs.load(keta, "list", connections=CONNECTIONS, seconds=args.seconds,
                                 keys=args.keys, span=100)
        count_ms = programs.load(keta, "count", **several)["median_us"] / 1000
        listing = programs.load(keta, "list", keys=args.keys, span=listed, **several)
        memory = keta.memory_bytes()
        put = programs.load(keta, "put", connections=CONNECTIONS, seconds=args.seconds, keys=args.keys)
        restart_s = median([keta.restart_seconds() for _ in range(args.rounds)])

        add(Row("list of 100 keys of %s" % keys, None, None, list_100["rate"], "/s"))
        add(Row("list of {:,} keys".format(listed), None, None, listing["median_us"] / 1e6, "s",
                budget=0.2, more=False))
        add(Row("count of %s" % keys, None, None, count_ms, "ms"))
        add(Row("memory with %s" % keys, None, None, memory / MIB, "MiB", budget=150, more=False))
        add(Row("restart with %s" % keys, None, None, restart_s, "s", budget=0.3, more=False))
        add(Row("put over %s" % keys, None, None, put["rate"], "/s"))

    def large(self):
        """Many keys, and the same keys with history."""
        keta, old = self.programs.ketad(), self.programs.ketad()
        self.say("\nMany keys")
        self.load_keys(keta)
        self.measure_large(keta)
        self.timed("{:,} keys with {} versions each".format(self.args.keys, VERSIONS),
                   self.programs.fill, old, self.args.keys, VERSIONS)
        options = {"keys": self.args.keys}
        figures = self.rounds("Random reads with and without history", [keta, old], {
            "plain": self.run(keta, "range", "rate", **options),
            "history": self.run(old, "range", "rate", **options),
            "plain CPU": self.run(keta, "range", "cpu_us", **options),
            "history CPU": self.run(old, "range", "cpu_us", **options),
        })
        self.compare("range, %d versions a key" % VERSIONS, figures, "history", "plain", "/s",
                     "one version", 1 / 1.2)
        self.compare("range, %d versions a key, CPU" % VERSIONS, figures, "history CPU", "plain CPU", "us",
                     "one version")
        keta.close()
        old.close()

    def streams(self):
        """Watches and leases."""
        Streams(self).measure()

    # ---- The profile ----

    def profile(self, mode):
        """Where the server's time goes, by perf: by thread and object, then by function."""
        keta = self.programs.ketad(pinned=True)
        data = os.path.join(self.programs.dir, "perf.data")
        self.programs.load(keta, "put", requests=1000)
        load = start([self.args.load, "--port", str(keta.port), "--mode", mode, "--seconds", "3"], True,
                     stdout=subprocess.DEVNULL)
        subprocess.run(["perf", "record", "-q", "-e", "cpu-clock", "-F", "1999", "-p", str(keta.process.pid),
                        "-o", data, "--", "sleep", "2"], check=False, stderr=subprocess.DEVNULL)
        load.wait()
        self.say("\nWhere the time of %s goes:" % mode)
        for fields, least in (("comm,dso", "1"), ("comm,dso,symbol", "0.7")):
            report = subprocess.run(["perf", "report", "-i", data, "--stdio", "--percent-limit", least,
                                     "--sort", fields, "--fields", "overhead," + fields],
                                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
            lines = [line.rstrip(" -") for line in report.stdout.splitlines() if line and line[0] != "#"]
            self.say("\n".join(lines) + "\n")
        keta.close()

    def profile_missed(self):
        missed = {row.what.split(",")[0].split(" ")[0] for row in self.rows if row.verdict() == "MISSED"}
        if self.args.profile:
            missed = {"range", "put"}
        if shutil.which("perf") is None:
            return
        for mode in sorted(missed & {"range", "put"}):
            self.profile(mode)

    # ---- The table ----

    def machine(self):
        with open("/proc/cpuinfo") as file:
            model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "?")
        with open("/proc/meminfo") as file:
            memory = int(file.readline().split()[1]) * 1024 / (1 << 30)
        return "%s, %d cores, %.0f GiB, Linux %s" % (
            model, len(os.sched_getaffinity(0)), memory, platform.release())

    def table(self):
        head = ["what", "limit or peer", "keta", "", "ratio", "budget", ""]
        cells = [head] + [row.cells() for row in self.rows]
        widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
        lines = ["  ".join(cell.ljust(width) if i in (0, 1, 3, 6) else cell.rjust(width)
                           for i, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in cells]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join(lines)

    def disturbance(self):
        """How far the machine was our own while we measured."""
        shares = [entry["elsewhere"] * 100 for entry in self.log]
        return "other work, of a core: median {:.0f} %, worst round {:.0f} %".format(median(shares), max(shares)) \
            if shares else ""

    def write_json(self, path):
        with open(path, "w") as file:
            json.dump({"machine": self.machine(), "rounds": self.log,
                       "rows": [row.as_json() for row in self.rows]}, file, indent=1)


PARTS = ("pinned", "throughput", "puts", "large", "streams")


def options(description, programs, parts):
    """A parser with what all of these benches can be told."""
    parser = argparse.ArgumentParser(description=description)
    for program in programs:
        parser.add_argument("--" + program, required=True, metavar="PROGRAM")
    parser.add_argument("--dir", default=".", help="where the data is kept meanwhile: on the disk that counts")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one run")
    parser.add_argument("--keys", type=int, default=1000000)
    parser.add_argument("--quick", action="store_true", help="three short rounds and 100,000 keys")
    parser.add_argument("--only", action="append", choices=parts, help="this part; may be repeated")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--strict", action="store_true", help="fail when a budget is missed")
    return parser


def run(parser, make, parts):
    """Makes a bench of the command line's arguments, runs its parts, or those asked for, and
    prints the table. Returns the exit status."""
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds, args.keys = 3, 0.4, 100000
    bench = make(args)
    try:
        bench.say(bench.machine())
        bench.begin()
        for part in args.only or parts:
            getattr(bench, part)()
        bench.end()
    finally:
        bench.programs.remove()
    bench.say("\n%s; %s\n\n%s" % (bench.machine(), bench.disturbance(), bench.table()))
    if args.json:
        bench.write_json(args.json)
    return 1 if args.strict and any(row.verdict() == "MISSED" for row in bench.rows) else 0


def main():
    parser = options(__doc__.split("\n")[0],
                     ("ketad", "load", "echo", "trial", "sqlite", "fill", "watchers", "frames"), PARTS)
    parser.add_argument("--etcd", metavar="PROGRAM", default=os.environ.get("ETCD"))
    parser.add_argument("--profile", action="store_true", help="profile range and put, missed or not")
    return run(parser, Bench, PARTS)


if __name__ == "__main__":
    sys.exit(main())
