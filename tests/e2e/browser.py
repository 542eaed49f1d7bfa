#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a web page can do with a server's streams, in a real browser.

    browser.py [--etcd] [--chromium FILE] SERVER

Needs Debian's chromium; it runs without a window, and is told what to do over
its debugging protocol. Pages come from the server itself (their own origin) and
from a small HTTP server of the test (a foreign one)."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import websocket
from gateway import HOST, Server, arguments, b64, expect, poll, run_tests

LIMIT_SEC = 30

# What the pages' scripts share. 'server' is the address of the server's API.
LIBRARY = """
const b64 = text => btoa(text);
const post = (path, body) => fetch(server + path, {
	method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)
}).then(answer => answer.json());

// The messages of a stream over fetch, as they come.
async function* lines(path, body, signal) {
	const answer = await fetch(server + path, {
		method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body), signal
	});
	const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
	let text = "";
	for (;;) {
		const {value, done} = await reader.read();
		if (done)
			return;
		text += value;
		for (let at; (at = text.indexOf("\\n")) >= 0; text = text.slice(at + 1))
			yield JSON.parse(text.slice(0, at));
	}
}

// A WebSocket whose messages one can wait for.
function socket(path, protocols) {
	const ws = new WebSocket(server.replace("http", "ws") + path, protocols || []);
	const came = [], waiting = [];
	ws.onmessage = event => {
		const message = JSON.parse(event.data);
		waiting.length ? waiting.shift()(message) : came.push(message);
	};
	ws.opened = new Promise(resolve => {
		ws.onopen = () => resolve("open");
		ws.onerror = () => resolve("refused");
	});
	ws.closed = new Promise(resolve => ws.onclose = event => resolve({code: event.code, clean: event.wasClean}));
	ws.next = () => new Promise(resolve => came.length ? resolve(came.shift()) : waiting.push(resolve));
	ws.say = body => ws.send(JSON.stringify(body));
	return ws;
}
"""

WATCH_BY_FETCH = """
const stop = new AbortController(), seen = [];
const watch = lines("/v3/watch", {create_request: {key: b64(key)}}, stop.signal);
seen.push((await watch.next()).value);
for (const value of ["one", "two", "three"]) {
	await post("/v3/kv/put", {key: b64(key), value: b64(value)});
	seen.push((await watch.next()).value);
}
await post("/v3/kv/deleterange", {key: b64(key)});
seen.push((await watch.next()).value);
stop.abort();
return seen;
"""

WATCH_BY_SOCKET = """
const ws = socket("/v3/watch"), seen = [];
if (await ws.opened !== "open")
	return "refused";
ws.say({create_request: {key: b64(key), watch_id: "7"}});
seen.push(await ws.next());
for (const value of ["one", "two", "three"]) {
	await post("/v3/kv/put", {key: b64(key), value: b64(value)});
	seen.push(await ws.next());
}
await post("/v3/kv/deleterange", {key: b64(key)});
seen.push(await ws.next());
ws.say({cancel_request: {watch_id: "7"}});
const canceled = await ws.next();
ws.say({create_request: {key: b64(key), watch_id: "8"}});
const again = await ws.next();
ws.close(1000);
return {seen, canceled, again, closed: await ws.closed};
"""

KEEP_ALIVE = """
const ws = socket("/v3/lease/keepalive"), seen = [];
const lease = (await post("/v3/lease/grant", {TTL: "60"})).ID;
if (await ws.opened !== "open")
	return "refused";
for (let i = 0; i < 3; i++) {
	ws.say({ID: lease});
	seen.push(await ws.next());
}
ws.close();
return {lease, seen, closed: await ws.closed};
"""

MANY = """
const ws = socket("/v3/watch");
await ws.opened;
ws.say({create_request: {key: b64(key)}});
await ws.next();
const value = b64("x".repeat(100000)), sizes = [];
const puts = [];
for (let i = 0; i < 30; i++)
	puts.push(post("/v3/kv/put", {key: b64(key), value}));
while (sizes.length < puts.length)
	for (const event of (await ws.next()).result.events)
		sizes.push(event.kv.value.length);
await Promise.all(puts);
ws.close(1000);
await ws.closed;
return sizes;
"""

OPEN_SOCKET = """
const ws = socket("/v3/watch", protocols), how = await ws.opened;
ws.close();
return [how, ws.protocol];
"""

FETCH_RANGE = """
return await post("/v3/kv/range", {key: b64("k")}).then(() => "read", error => error.name);
"""


class Browser:
    """A Chromium that runs scripts in pages."""

    def __init__(self, program):
        self.directory = tempfile.mkdtemp(prefix="keta-browser-")
        self.log = open(os.path.join(self.directory, "log"), "wb")
        self.process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--no-first-run", "--disable-background-networking", "--no-proxy-server",
             "--remote-debugging-port=0", "--user-data-dir=" + self.directory, "about:blank"],
            stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL, cwd=self.directory)
        try:
            port, path = poll(self.address, LIMIT_SEC, "the browser's start")
            self.socket = websocket.WebSocket(int(port), path)
        except BaseException:
            self.stop()
            raise
        self.number = 0

    def address(self):
        expect(self.process.poll() is None, "the browser ended with %s", self.process.returncode)
        try:
            with open(os.path.join(self.directory, "DevToolsActivePort")) as file:
                lines = file.read().split("\n")
            return lines if len(lines) == 2 else None
        except OSError:
            return None

    def call(self, method, session=None, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        self.socket.send(json.dumps(message))
        deadline = time.monotonic() + LIMIT_SEC
        while True:
            text = self.socket.receive(max(0.01, deadline - time.monotonic()))
            expect(text is not None, "the browser is gone")
            answer = json.loads(text)
            if answer.get("id") == self.number:
                expect("error" not in answer, "%s: %s", method, answer.get("error"))
                return answer["result"]

    def run(self, url, script, **values):
        """What 'script', an async function's body, returns in the page at 'url'."""
        target = self.call("Target.createTarget", url=url)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        try:
            poll(lambda: self.evaluate(session, "location.href + document.readyState") == url + "complete",
                 LIMIT_SEC, "the page " + url)
            given = "".join("const %s = %s;\n" % (name, json.dumps(value)) for name, value in values.items())
            return self.evaluate(session, "(async () => {%s%s%s})()" % (given, LIBRARY, script))
        finally:
            self.call("Target.closeTarget", targetId=target)

    def evaluate(self, session, text):
        answer = self.call("Runtime.evaluate", session, expression=text, awaitPromise=True, returnByValue=True)
        expect("exceptionDetails" not in answer, "the script failed: %s", answer.get("exceptionDetails"))
        return answer["result"].get("value")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(LIMIT_SEC)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


class Page(http.server.BaseHTTPRequestHandler):
    """An empty page, whatever is asked for."""

    def do_GET(self):
        body = b"<!doctype html><title>a page of somebody else</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Context:
    """The server as it is by default, one that is told of an origin, and pages."""

    def __init__(self, server, strict, browser, pages):
        self.is_etcd = server.is_etcd
        self.server, self.strict, self.browser = server, strict, browser
        self.foreign = "http://%s:%d/" % (HOST, pages)  # what the strict server is told of
        self.other = "http://localhost:%d/" % pages     # what nobody is told of

    @staticmethod
    def url(server, path=""):
        return "http://%s:%d%s" % (HOST, server.port, path)

    def run(self, page, script, server=None, **values):
        return self.browser.run(page, script, server=self.url(server or self.server), **values)

    def own(self):
        return self.url(self.server, "/version")


def check_messages(messages, key):
    created, *events = [message["result"] for message in messages]
    expect(created.get("created"), "not created: %s", created)
    told = [(event.get("type", "PUT"), event["kv"]["key"], event["kv"].get("value"))
            for result in events for event in result["events"]]
    wanted = [("PUT", b64(key), b64(value)) for value in ("one", "two", "three")] + [("DELETE", b64(key), None)]
    expect(told == wanted, "told of %s", told)


def check_socket(found, key):
    expect(found != "refused", "the WebSocket was refused")
    check_messages(found["seen"], key)
    canceled, again = found["canceled"]["result"], found["again"]["result"]
    expect(canceled.get("canceled") and canceled["watch_id"] == "7", "not canceled: %s", canceled)
    expect(again.get("created") and again["watch_id"] == "8", "not created again: %s", again)


def no_watch_is_left(context):
    def count():
        gateway = context.server.gateway()
        text = gateway.get("/metrics")[1]
        gateway.close()
        return [line.split()[1] for line in text.splitlines() if line.startswith("etcd_debugging_mvcc_watcher_total ")]

    poll(lambda: count() == ["0"], LIMIT_SEC, "the end of the watch")


# ---------------------------------------------------------------- tests

def fetch_reads_a_watch_as_it_comes_from_a_foreign_origin(context):
    check_messages(context.run(context.foreign, WATCH_BY_FETCH, key="foreign fetch"), "foreign fetch")
    no_watch_is_left(context)


def fetch_reads_a_watch_as_it_comes_from_its_own_origin(context):
    check_messages(context.run(context.own(), WATCH_BY_FETCH, key="own fetch"), "own fetch")
    no_watch_is_left(context)


def a_socket_of_its_own_origin_goes_both_ways(context):
    found = context.run(context.own(), WATCH_BY_SOCKET, key="own socket")
    check_socket(found, "own socket")
    if not context.is_etcd:  # which drops the connection instead
        expect(found["closed"] == {"code": 1000, "clean": True}, "closed with %s", found["closed"])
    no_watch_is_left(context)


def a_lease_is_kept_alive_over_a_socket(context):
    found = context.run(context.own(), KEEP_ALIVE)
    for message in found["seen"]:
        expect(message["result"]["ID"] == found["lease"] and message["result"]["TTL"] == "60", "%s", message)


def large_messages_come_whole_over_a_socket(context):
    sizes = context.run(context.own(), MANY, key="large")
    expect(sizes == [len(b64("x" * 100000))] * 30, "values of %s", sizes)


def a_token_is_taken_as_a_subprotocol(context):
    found = context.run(context.own(), OPEN_SOCKET, protocols=["Bearer", "some-token"])
    expect(found == ["open", "Bearer"], "%s", found)


def a_page_that_is_closed_ends_its_watch(context):
    context.run(context.own(), "const ws = socket('/v3/watch'); await ws.opened; "
                "ws.say({create_request: {key: b64('left')}}); await ws.next(); return true;")
    no_watch_is_left(context)


def a_socket_of_a_foreign_origin_is_refused(context):
    """Which a page could open without a word of CORS: fetch is another matter."""
    found = context.run(context.foreign, OPEN_SOCKET, protocols=[])
    if not context.is_etcd:
        expect(found[0] == "refused", "the default allows it")
    found = context.run(context.other, OPEN_SOCKET, context.strict, protocols=[])
    if not context.is_etcd:
        expect(found[0] == "refused", "another than the origin that is allowed can do it")


def a_socket_of_an_origin_that_is_allowed_goes_both_ways(context):
    check_socket(context.run(context.foreign, WATCH_BY_SOCKET, context.strict, key="allowed"), "allowed")


def fetch_works_for_the_origin_that_is_allowed_only(context):
    check_messages(context.run(context.foreign, WATCH_BY_FETCH, context.strict, key="allowed"), "allowed")
    found = context.run(context.other, FETCH_RANGE, context.strict)
    expect(found == "TypeError", "another origin: %s", found)


TESTS = [fetch_reads_a_watch_as_it_comes_from_a_foreign_origin, fetch_reads_a_watch_as_it_comes_from_its_own_origin,
         a_socket_of_its_own_origin_goes_both_ways, a_lease_is_kept_alive_over_a_socket,
         large_messages_come_whole_over_a_socket, a_token_is_taken_as_a_subprotocol,
         a_page_that_is_closed_ends_its_watch, a_socket_of_a_foreign_origin_is_refused,
         a_socket_of_an_origin_that_is_allowed_goes_both_ways, fetch_works_for_the_origin_that_is_allowed_only]


def main():
    parser = arguments(__doc__, seeded=False)
    parser.add_argument("--chromium", default="chromium", help="the browser's program")
    options = parser.parse_args()
    pages = http.server.ThreadingHTTPServer((HOST, 0), Page)
    pages.daemon_threads = True
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    origin = "http://%s:%d" % (HOST, pages.server_port)
    server = Server(options, name="keta-browser")
    strict = Server(options, ["--cors", origin], name="keta-browser-strict")
    with server, strict:
        browser = Browser(options.chromium)
        try:
            return run_tests(TESTS, Context(server, strict, browser, pages.server_port), server)
        finally:
            browser.stop()
            pages.shutdown()
            pages.server_close()


if __name__ == "__main__":
    sys.exit(main())
