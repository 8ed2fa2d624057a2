// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package recollect

import (
	"context"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	pb "github.com/recollect-ai/recollect/clients/go/recollectv1"
)

// resumeKey is the metadata by which the server says where a watch begins.
const resumeKey = "x-resume-token"

// Watch yields the changes of a user or of a session, in order, until the caller stops.
//
// While the server cannot be reached it is asked again, and the changes go on where they broke off,
// without gap or repeat. Keep a change's resume_token to go on after a crash of yours.
func (m *Memory) Watch(
	ctx context.Context, req *pb.WatchRequest,
) iter.Seq2[*pb.WatchResponse, error] {
	return func(yield func(*pb.WatchResponse, error) bool) {
		req := prepared(req, m.client.settings.userID)
		started := func(stream grpc.ClientStream) {
			if req.GetResumeToken() != "" {
				return
			}
			if header, err := stream.Header(); err == nil {
				if tokens := header.Get(resumeKey); len(tokens) == 1 {
					req.ResumeToken = tokens[0]
				}
			}
		}
		var between pauses
		for {
			var failed error
			for change, err := range receive(ctx, req, m.stub.Watch, started) {
				if err != nil {
					failed = err
					break
				}
				req.ResumeToken = change.GetResumeToken()
				between.reset()
				if !yield(change, nil) {
					return
				}
			}
			if failed == nil {
				return
			}
			known := req.GetResumeToken() != "" || between.tries+1 < maxTries
			if asError(failed).Code != codes.Unavailable || !known {
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
