// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package recollect

import (
	"context"
	"iter"

	pb "github.com/recollect-ai/recollect/clients/go/recollectv1"
)

// Watch yields the changes of a user or of a session, in order, until the caller stops.
//
// Without a resume_token the first response comes at once and has no subject: whatever is written
// after it will be yielded. While the server cannot be reached it is asked again, and the changes go on
// where they broke off, without gap or repeat. Keep the last resume_token to go on after a crash of
// yours.
func (m *Memory) Watch(
	ctx context.Context, req *pb.WatchRequest,
) iter.Seq2[*pb.WatchResponse, error] {
	return func(yield func(*pb.WatchResponse, error) bool) {
		req := prepared(req, m.client.settings.userID)
		var between pauses
		for {
			var failed error
			for resp, err := range receiveOnce(ctx, req, m.stub.Watch) {
				if err != nil {
					failed = err
					break
				}
				req.ResumeToken = resp.GetResumeToken()
				between.reset()
				if !yield(resp, nil) {
					return
				}
			}
			if failed == nil {
				return
			}
			givenUp := between.exhausted() && req.GetResumeToken() == ""
			if givenUp || !unavailable(ctx, m.client.conn, failed) {
				yield(nil, failed)
				return
			}
			if !between.wait(ctx) {
				yield(nil, fromRPC(ctx.Err()))
				return
			}
		}
	}
}
