// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package recollect

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
)

const (
	maxTries     = 5
	firstPause   = 100 * time.Millisecond
	longestPause = time.Second
	// resumeTime is how long a chat stream without a deadline, once broken, is resumed without an event.
	resumeTime = time.Minute
)

// repeat runs a unary call, again while the server is unavailable. Every one may be repeated: a write
// either carries a request id or comes to the same when repeated. gRPC's own repeats cannot tell a call
// that was cancelled for a reason from one that a server did not begin.
func repeat(
	ctx context.Context, method string, req, reply any, conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	var between pauses
	for {
		err := invoke(ctx, method, req, reply, conn, options...)
		if err == nil || between.exhausted() || !unavailable(ctx, conn, err) {
			return err
		}
		if !between.wait(ctx) {
			return fromRPC(ctx.Err())
		}
	}
}

// pauses counts the tries of a call, or to go on with a stream that broke, and waits before each.
type pauses struct {
	tries int
	next  time.Duration
	broke time.Time
}

// reset says that something came: the next pause is the first again.
func (p *pauses) reset() { *p = pauses{} }

// exhausted says whether one more try would be one too many, if none brings anything.
func (p *pauses) exhausted() bool { return p.tries+1 >= maxTries }

// goesOn says whether a stream that broke is tried again: as long as its deadline lets it, which wait
// heeds. Such tries do not count.
func (p *pauses) goesOn(ctx context.Context) bool {
	if p.broke.IsZero() {
		p.broke = time.Now()
	}
	p.tries = 0
	_, bounded := ctx.Deadline()
	return bounded || time.Since(p.broke) < resumeTime
}

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

// unavailable says whether another server, or the same later, may do what this one did not. A server
// that shuts down cancels the calls that it has not begun, and gives no reason.
func unavailable(ctx context.Context, conn *grpc.ClientConn, err error) bool {
	failed := asError(err)
	switch failed.Code {
	case codes.Unavailable:
		return true
	case codes.Canceled:
		ours := ctx.Err() != nil || conn.GetState() == connectivity.Shutdown
		return failed.Reason == "" && !ours
	default:
		return false
	}
}

// lost says whether the connection broke, or the server is going away: not that a part of it is down.
func lost(ctx context.Context, conn *grpc.ClientConn, err error) bool {
	reason := ReasonOf(err)
	return unavailable(ctx, conn, err) && (reason == "" || reason == ReasonShuttingDown)
}
