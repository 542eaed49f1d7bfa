# SPDX-License-Identifier: Apache-2.0
# Sourced by quickstart and check: from a bare Debian 12 to a configured build.
# Uses $top, the checkout.

build_packages="gcc make autoconf automake libtool pkg-config libmicrohttpd-dev libjansson-dev
	libsqlite3-dev libssl-dev librdkafka-dev libxxhash-dev libwslay-dev libprotobuf-c-dev protobuf-c-compiler libprotobuf-dev check"

# Installs those of the named Debian packages that are missing; says so first.
install_packages()
{
	local missing="" package
	for package in "$@"; do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
			missing="$missing $package"
	done
	[ -n "$missing" ] || return 0
	echo "Installing Debian packages:$missing"
	local root=""
	if [ "$(id -u)" -ne 0 ]; then
		root="sudo"
		command -v sudo >/dev/null || {
			echo "They need root: install them and run this again." >&2
			exit 1
		}
	fi
	$root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
	# shellcheck disable=SC2086
	$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# configure_build DIR [OPTION...]: a build directory under the checkout, made
# once and again when the build system has changed.
configure_build()
{
	local dir="$top/$1"
	shift
	if [ -f "$top/config.status" ]; then
		echo "There is a build in $top itself: run 'make distclean' there first." >&2
		exit 1
	fi
	if [ ! -f "$top/configure" ] || [ "$top/configure.ac" -nt "$top/configure" ] ||
		[ "$top/Makefile.am" -nt "$top/Makefile.in" ]; then
		(cd "$top" && autoreconf -fi >/dev/null 2>"$top/autoreconf.log") || {
			cat "$top/autoreconf.log" >&2
			exit 1
		}
		rm -f "$top/autoreconf.log"
	fi
	mkdir -p "$dir"
	if [ ! -f "$dir/Makefile" ] || [ "$top/configure" -nt "$dir/Makefile" ]; then
		(cd "$dir" && "$top/configure" -q "$@")
	fi
}

jobs=$(nproc 2>/dev/null || echo 2)
