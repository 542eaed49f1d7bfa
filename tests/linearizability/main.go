// SPDX-License-Identifier: Apache-2.0

// Linearizability loads servers of one store through their JSON gateway and
// checks that what the clients were answered can be explained by one order of
// all operations that agrees with real time; that watches tell exactly that
// order; and that leases live as long as they were promised, and no longer than
// they must. What else happens to the servers meanwhile is another's business.
// Nobody else may write to them.
//
//	linearizability --endpoints URL,URL,... [--seconds N | --stop-file PATH]
//
// A write that got no answer may have happened or not; when a watch tells of
// it, it did, at that revision, and otherwise it did not. That can be said since
// in the end every watch has been told of one last write and of each revision
// before it; what happens later does not count any more.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

type options struct {
	clients  int
	keys     int
	holders  int
	watchers int
	rate     int
	seed     int64
	seconds  int
	stopFile string
	out      string
	timeout  time.Duration
	compact  time.Duration
	settle   time.Duration
}

func main() {
	o := options{}
	endpoints := flag.String("endpoints", "", "the servers' URLs, parted by commas")
	flag.IntVar(&o.clients, "clients", 12, "clients that read and write keys")
	flag.IntVar(&o.keys, "keys", 24, "keys in use at a time, in groups of 3")
	flag.IntVar(&o.holders, "holders", 6, "clients that hold leases")
	flag.IntVar(&o.watchers, "watchers", 2, "watchers per endpoint")
	flag.IntVar(&o.rate, "rate", 1000, "the most operations a second, of all clients together")
	flag.Int64Var(&o.seed, "seed", time.Now().UnixNano()%1e9, "of what the clients do; names the keys, too")
	flag.IntVar(&o.seconds, "seconds", 60, "how long the load lasts")
	flag.StringVar(&o.stopFile, "stop-file", "", "let the load last until there is this file instead")
	flag.StringVar(&o.out, "out", "", "the directory for the history of a check that fails")
	flag.DurationVar(&o.timeout, "timeout", 4*time.Second, "how long a client waits for an answer")
	flag.DurationVar(&o.compact, "compact", 3*time.Second, "how often old history is compacted; 0: never")
	flag.DurationVar(&o.settle, "settle", 60*time.Second, "how long servers may take after the load until all is well")
	selfTest := flag.Bool("self-test", false, "check the checks with histories that are wrong")
	flag.Parse()
	if *selfTest {
		os.Exit(checkChecks())
	}
	if *endpoints == "" || o.keys < groupSize || o.rate < 1 {
		flag.Usage()
		os.Exit(2)
	}
	fmt.Printf("seed %d\n", o.seed)
	os.Exit(exercise(&o, strings.Split(*endpoints, ",")))
}
