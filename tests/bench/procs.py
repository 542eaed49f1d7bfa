# SPDX-License-Identifier: Apache-2.0
"""The programs that the benchmark runs: servers, with what they cost, and tools.

A server listens on 127.0.0.1 at a port of its own choice or a free one, keeps
its data in a directory below the benchmark's, and is ended by its own handle.
"""

import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

READY_SECONDS = 120
SETTLE_SECONDS = 10
QUOTA_BYTES = 64 << 30  # the server's own default would stop a long run of puts

running = []  # what has a process, to be ended when the benchmark breaks off


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pin_core():
    """The core that pinned measurements share: the last one that we may use."""
    return max(os.sched_getaffinity(0))


def start(argv, pinned, **options):
    def pin():
        if pinned:
            os.sched_setaffinity(0, {pin_core()})
    return subprocess.Popen(argv, preexec_fn=pin, text=True, **options)


class Server:
    """A running server. Without a port given, it prints the one it chose."""

    def __init__(self, name, argv, port=None, pinned=False, data=None):
        self.name, self.argv, self.port, self.pinned, self.data = name, argv, port, pinned, data
        self.process = None
        running.append(self)
        self.start()

    def start(self):
        begun = time.monotonic()
        output = subprocess.PIPE if self.port is None else subprocess.DEVNULL
        self.process = start(self.argv, self.pinned, stdout=output, stderr=subprocess.DEVNULL)
        if self.port is None:
            self.port = int(self.process.stdout.readline() or 0)
        self.wait_ready()
        return time.monotonic() - begun

    def answers(self):
        """Whether a linearizable range is answered."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=READY_SECONDS)
        try:
            connection.request("POST", "/v3/kv/range", '{"key":"AA=="}')
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def wait_ready(self):
        until = time.monotonic() + READY_SECONDS
        while not self.answers():
            if self.process.poll() is not None:
                raise SystemExit("bench: %s ended at once: %s" % (self.name, " ".join(self.argv)))
            if time.monotonic() > until:
                raise SystemExit("bench: %s does not answer" % self.name)
            time.sleep(0.001)

    def cpu_seconds(self):
        """What all its threads have used. The scheduler's own count: the clock ticks of
        /proc/PID/stat are too coarse for short runs."""
        base = "/proc/%d/task" % self.process.pid
        total = 0
        for task in os.listdir(base):
            with open("%s/%s/schedstat" % (base, task)) as file:
                total += int(file.read().split()[0])
        return total / 1e9

    def settle(self):
        """Waits until what earlier work has left to do is done: the CPU tells."""
        until = time.monotonic() + SETTLE_SECONDS
        idle = False
        while not idle and time.monotonic() < until:
            before = self.cpu_seconds()
            time.sleep(0.2)
            idle = self.cpu_seconds() - before < 0.01

    def memory_bytes(self):
        with open("/proc/%d/status" % self.process.pid) as file:
            for line in file:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024
        return 0

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def restart_seconds(self):
        """From the start of the process until it answers, after a clean stop."""
        self.end()
        return self.start()

    def close(self):
        running.remove(self)
        self.end()
        if self.data is not None:
            shutil.rmtree(self.data)


def option_list(options):
    """{"keys": 5, "again": True} as --keys 5 --again."""
    argv = []
    for name, value in options.items():
        argv += ["--" + name] + ([] if value is True else [str(value)])
    return argv


class Watching:
    """A program with watches that are open: it said "ready" before this returned."""

    def __init__(self, argv, server):
        self.argv = argv
        self.process = start(argv, server.pinned, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        running.append(self)
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit("bench: %s failed against %s" % (" ".join(argv), server.name))

    def wait(self):
        """Its figures, once it has seen all that it was to wait for."""
        output = self.process.stdout.read()
        running.remove(self)
        self.process.stdin.close()
        self.process.stdout.close()
        if self.process.wait() != 0:
            raise SystemExit("bench: %s failed" % " ".join(self.argv))
        return json.loads(output)

    def end(self):
        """Its figures as of now."""
        self.process.stdin.close()
        return self.wait()


class Programs:
    """The paths of the programs, and the directory for data."""

    def __init__(self, args):
        self.args = args
        # Very many connections, of servers and tools alike.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self.dir = tempfile.mkdtemp(prefix="bench-", dir=args.dir)

    def remove(self):
        for owner in running:
            if owner.process is not None:
                owner.process.kill()
                owner.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def data(self):
        return tempfile.mkdtemp(dir=self.dir)

    def echo(self, pinned=False, suspend=False):
        argv = [self.args.echo] + (["--suspend"] if suspend else [])
        return Server("suspended echo" if suspend else "echo", argv, pinned=pinned)

    def trial(self, pinned=False):
        data = self.data()
        return Server("trial", [self.args.trial, "--dir", data], pinned=pinned, data=data)

    def ketad(self, pinned=False):
        data, port = self.data(), free_port()
        url = "http://127.0.0.1:%d" % port
        argv = [self.args.ketad, "--data-dir", data, "--listen-client-urls", url,
                "--advertise-client-urls", url, "--quota-backend-bytes", str(QUOTA_BYTES)]
        return Server("keta", argv, port, pinned, data)

    def etcd(self, pinned=False):
        data, port, peer = self.data(), free_port(), "http://127.0.0.1:%d" % free_port()
        url = "http://127.0.0.1:%d" % port
        argv = [self.args.etcd, "--data-dir", data, "--listen-client-urls", url,
                "--advertise-client-urls", url, "--listen-peer-urls", peer,
                "--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer,
                "--quota-backend-bytes", str(QUOTA_BYTES), "--log-level", "error"]
        return Server("etcd", argv, port, pinned, data)

    def tool(self, program, server, **options):
        """Runs a load program; adds the server's CPU to its figures."""
        argv = [program, "--port", str(server.port)] + option_list(options)
        before = server.cpu_seconds()
        process = start(argv, server.pinned, stdout=subprocess.PIPE)
        output = process.communicate()[0]
        if process.returncode != 0:
            raise SystemExit("bench: %s failed against %s" % (" ".join(argv), server.name))
        return {**json.loads(output), "server_seconds": server.cpu_seconds() - before}

    def load(self, server, mode, **options):
        figures = self.tool(self.args.load, server, mode=mode, **options)
        figures["cpu_us"] = figures["server_seconds"] / figures["requests"] * 1e6
        return figures

    def watchers(self, server, **options):
        return self.tool(self.args.watchers, server, **options)

    def frames(self, server, **options):
        return self.tool(self.args.frames, server, **options)

    def watching(self, server, mode, **options):
        argv = [self.args.watchers, "--port", str(server.port), "--mode", mode] + option_list(options)
        return Watching(argv, server)

    def fill(self, server, keys, versions):
        """Stops the server, fills its database from outside, and starts it again."""
        server.end()
        subprocess.run([self.args.fill, "--dir", server.data, "--keys", str(keys), "--versions", str(versions)],
                       check=True)
        server.start()

    def sqlite(self, work, pinned=False, **options):
        data = self.data()
        argv = [self.args.sqlite, "--dir", data, "--work", work] + option_list(options)
        process = start(argv, pinned, stdout=subprocess.PIPE)
        output = process.communicate()[0]
        shutil.rmtree(data)
        if process.returncode != 0:
            raise SystemExit("bench: %s failed" % " ".join(argv))
        return json.loads(output)

    def fsync_rate(self, seconds=0.2):
        """4 KiB appended and made durable, over and over: what the disk does now."""
        path = os.path.join(self.dir, "fsync")
        block = bytes(4096)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        count, begun = 0, time.monotonic()
        while time.monotonic() - begun < seconds:
            os.pwrite(file, block, count * len(block))
            os.fdatasync(file)
            count += 1
        elapsed = time.monotonic() - begun
        os.close(file)
        os.unlink(path)
        return count / elapsed


class Elsewhere:
    """How much of a core other processes used between begin and end."""

    def __init__(self, servers):
        self.servers = servers
        self.begun, self.busy, self.own = time.monotonic(), self.busy_seconds(), self.own_seconds()

    @staticmethod
    def busy_seconds():
        with open("/proc/stat") as file:
            fields = [int(field) for field in file.readline().split()[1:]]
        return (sum(fields[:3]) + sum(fields[5:7])) / os.sysconf("SC_CLK_TCK")

    def own_seconds(self):
        own = [resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)]
        return sum(usage.ru_utime + usage.ru_stime for usage in own) + \
            sum(server.cpu_seconds() for server in self.servers)

    def share(self):
        elapsed = time.monotonic() - self.begun
        other = (self.busy_seconds() - self.busy) - (self.own_seconds() - self.own)
        return max(0.0, other / elapsed)
