#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The include rule: what may see what, so that the direction of a request through
# the directories stays the only one.
#
#     base                base and the generated messages
#     log, state          base and the generated messages (state never log)
#     engine              base, the log's interfaces and its records, state, watch; no log's implementation
#     edge                base and engine's three public headers
#     main.c              everything
#
# Besides, state must give the same on every node and at any time: it includes
# nothing that tells a time, draws a random number or reaches the network.
set -u
cd "${srcdir:-.}/src" || exit 2
bad=0

# Prints "file: header" for each #include "..." below a directory.
included() {
	find "$1" -name '*.[ch]' -exec grep -H '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' {} + |
		sed 's/^\([^:]*\):[^"]*"\([^"]*\)".*/\1: \2/'
}

# allow DIR PATTERN: every header that files in DIR include fits the pattern.
allow() {
	test -d "$1" || return 0
	found=$(included "$1" | grep -Ev ": ($2)\$")
	if test -n "$found"; then
		echo "$1 may not include:"
		echo "$found"
		bad=1
	fi
}

messages='[a-z]+\.pb-c\.h'
allow base "base/.*|$messages"
allow log "log/.*|base/.*|$messages"
allow state "state/.*|base/.*|$messages"
allow watch "watch/.*|state/.*|base/.*|$messages"
allow engine "methods\.def|engine/.*|log/(log|tables|election|record)\.h|state/.*|watch/.*|base/.*|$messages"
allow edge "edge/.*|engine/(call|engine|method|stream)\.h|state/event\.h|base/.*|$messages"

found=$(find state -name '*.[ch]' -exec grep -HnE \
	'include.*("base/(clock|config|metrics|process|seed)\.h"|<(time|sys/time|sys/random|sys/socket|netdb|poll|sys/epoll)\.h>)|[^_a-z](time|clock_gettime|gettimeofday|rand|random|getrandom|getpid|getenv)\(' {} +)
if test -n "$found"; then
	echo "state must be deterministic, but:"
	echo "$found"
	bad=1
fi

test "$bad" -eq 0 && echo "the include rule holds"
exit "$bad"
