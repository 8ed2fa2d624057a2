// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package recollect

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
)

const (
	maxTries         = 5
	firstPause       = 100 * time.Millisecond
	longestPause     = 2 * time.Second
	longestReconnect = time.Second
	// What gRPC keeps of a request to repeat it; its own 256 KiB would leave out large appends.
	retryBufferBytes = 8 << 20
)

// once lists the calls that gRPC does not repeat. Every other one may be: a write either carries a
// request id or comes to the same when repeated. But the records of an import are a stream, and Watch
// repeats itself: it knows where to go on.
var once = map[string][]string{"MemoryService": {"Watch"}, "AdminService": {"ImportUser"}}

type methodName struct {
	Service string `json:"service,omitempty"`
	Method  string `json:"method,omitempty"`
}

type retryPolicy struct {
	MaxAttempts          int      `json:"maxAttempts"`
	InitialBackoff       string   `json:"initialBackoff"`
	MaxBackoff           string   `json:"maxBackoff"`
	BackoffMultiplier    float64  `json:"backoffMultiplier"`
	RetryableStatusCodes []string `json:"retryableStatusCodes"`
}

type methodConfig struct {
	Name        []methodName `json:"name"`
	RetryPolicy *retryPolicy `json:"retryPolicy,omitempty"`
}

// serviceConfig says to gRPC which calls to repeat.
func serviceConfig() string {
	var alone []methodName
	for service, methods := range once {
		for _, method := range methods {
			alone = append(alone, methodName{"recollect.v1." + service, method})
		}
	}
	repeated := methodConfig{Name: []methodName{{}}, RetryPolicy: &retryPolicy{
		MaxAttempts:          maxTries,
		InitialBackoff:       "0.1s",
		MaxBackoff:           "2s",
		BackoffMultiplier:    2,
		RetryableStatusCodes: []string{"UNAVAILABLE"},
	}}
	text, err := json.Marshal(map[string][]methodConfig{
		"methodConfig": {repeated, {Name: alone}},
	})
	if err != nil {
		panic(err) // Only texts and numbers: cannot fail.
	}
	return string(text)
}

// pauses counts the tries to go on with a stream that broke, and waits before each.
type pauses struct {
	tries int
	next  time.Duration
}

// reset says that something came: the next pause is the first again.
func (p *pauses) reset() { *p = pauses{} }

// wait returns false if the context ended first.
func (p *pauses) wait(ctx context.Context) bool {
	p.tries++
	p.next = min(max(2*p.next, firstPause), longestPause)
	// Many clients of one server must not come back at the same moment.
	timer := time.NewTimer(time.Duration(float64(p.next) * (0.5 + rand.Float64()/2)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// lost says whether the connection broke, or the server is going away: not that a part of it is down.
func lost(err error) bool {
	failed := asError(err)
	return failed.Code == codes.Unavailable &&
		(failed.Reason == "" || failed.Reason == ReasonShuttingDown)
}
