// SPDX-License-Identifier: Apache-2.0

package main

// The JSON gateway as far as this program needs it, and what can become of a
// request. Byte strings are base64 and 64-bit integers strings, as
// encoding/json does it by itself.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

type header struct {
	Revision int64 `json:"revision,string"`
}

type keyValue struct {
	Key     []byte `json:"key"`
	Value   []byte `json:"value"`
	Create  int64  `json:"create_revision,string"`
	Mod     int64  `json:"mod_revision,string"`
	Version int64  `json:"version,string"`
	Lease   int64  `json:"lease,string"`
}

type rangeAnswer struct {
	Header header      `json:"header"`
	Kvs    []*keyValue `json:"kvs"`
	More   bool        `json:"more"`
}

type putAnswer struct {
	Header header    `json:"header"`
	Prev   *keyValue `json:"prev_kv"`
}

type deleteAnswer struct {
	Header  header      `json:"header"`
	Deleted int64       `json:"deleted,string"`
	Prevs   []*keyValue `json:"prev_kvs"`
}

type txnAnswer struct {
	Header    header `json:"header"`
	Succeeded bool   `json:"succeeded"`
	Responses []struct {
		Range  *rangeAnswer  `json:"response_range"`
		Put    *putAnswer    `json:"response_put"`
		Delete *deleteAnswer `json:"response_delete_range"`
	} `json:"responses"`
}

type leaseAnswer struct {
	Header header `json:"header"`
	ID     int64  `json:"ID,string"`
	TTL    int64  `json:"TTL,string"`
}

type keepAliveAnswer struct {
	Result *leaseAnswer `json:"result"`
}

type leasesAnswer struct {
	Leases []struct {
		ID int64 `json:"ID,string"`
	} `json:"leases"`
}

type outcome int

const (
	done    outcome = iota
	refused         // the server said no: nothing happened
	notSent         // no connection was made: nothing happened
	unknown         // it may have happened, or may happen yet
)

func (o outcome) String() string {
	return [...]string{"done", "refused", "not sent", "unknown"}[o]
}

// A caller has connections of its own, so that one that breaks is nobody
// else's. Go's transport sends a POST again only when nothing of it had been
// written, so no request is ever made twice.
type caller struct {
	http *http.Client
}

func newCaller() *caller {
	dialer := net.Dialer{Timeout: 2 * time.Second}
	return &caller{&http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 4}}}
}

// What a request is answered; the gateway's errors have these fields.
type failure struct {
	HTTP    int
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (f *failure) Error() string {
	return fmt.Sprintf("%d, code %d: %s", f.HTTP, f.Code, f.Message)
}

// post sends one request and decodes its answer. Only what cannot have happened
// is refused or not sent: any other trouble is unknown.
func (c *caller) post(endpoint, path string, timeout time.Duration, body, answer any) (outcome, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	encoded, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	request, err := http.NewRequestWithContext(ctx, "POST", endpoint+"/v3/"+path, bytes.NewReader(encoded))
	if err != nil {
		panic(err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		var network *net.OpError
		if errors.As(err, &network) && network.Op == "dial" {
			return notSent, err
		}
		return unknown, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return unknown, err
	}
	if response.StatusCode != http.StatusOK {
		told := &failure{HTTP: response.StatusCode}
		if json.Unmarshal(data, told) != nil || told.HTTP >= 500 || told.HTTP == http.StatusRequestTimeout {
			return unknown, told
		}
		return refused, told
	}
	var inStream struct {
		Error *failure `json:"error"`
	}
	if err := json.Unmarshal(data, &inStream); err != nil {
		return unknown, fmt.Errorf("%v in %.200q", err, data)
	}
	if inStream.Error != nil {
		return unknown, inStream.Error
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return unknown, fmt.Errorf("%v in %.200q", err, data)
	}
	return done, nil
}

// afterPrefix is the end of the range of all keys that begin with prefix, whose
// last byte is not the last of bytes.
func afterPrefix(prefix string) string {
	end := []byte(prefix)
	end[len(end)-1]++
	return string(end)
}
