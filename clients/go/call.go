// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package recollect

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// method is a unary method of a stub.
type method[Req, Resp any] func(context.Context, Req, ...grpc.CallOption) (Resp, error)

// call runs a unary method within a timeout, unless the context has a deadline.
func call[Req proto.Message, Resp any](
	ctx context.Context, timeout time.Duration, req Req, run method[Req, Resp],
) (Resp, error) {
	ctx, cancel := bounded(ctx, timeout)
	defer cancel()
	resp, err := run(ctx, req)
	return resp, fromRPC(err)
}

// list yields the items of all pages from the request's on.
func list[Req proto.Message, Resp interface{ GetNextPageToken() string }, Item any](
	ctx context.Context, timeout time.Duration, req Req, run method[Req, Resp],
	items func(Resp) []Item,
) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		req := proto.CloneOf(req)
		message := req.ProtoReflect()
		token := message.Descriptor().Fields().ByName("page_token")
		for {
			page, err := call(ctx, timeout, req, run)
			if err != nil {
				var none Item
				yield(none, err)
				return
			}
			for _, item := range items(page) {
				if !yield(item, nil) {
					return
				}
			}
			next := page.GetNextPageToken()
			if next == "" {
				return
			}
			message.Set(token, protoreflect.ValueOfString(next))
		}
	}
}

// streaming is a method of a stub that streams its responses.
type streaming[Req, Item any] func(
	context.Context, Req, ...grpc.CallOption,
) (grpc.ServerStreamingClient[Item], error)

// receive yields what a stream brings, and begins it again while it brings nothing because the server is
// unavailable.
func receive[Req, Item any](
	ctx context.Context, conn *grpc.ClientConn, req Req, open streaming[Req, Item],
) iter.Seq2[*Item, error] {
	return func(yield func(*Item, error) bool) {
		var between pauses
		for {
			begun, again := false, false
			for item, err := range receiveOnce(ctx, req, open) {
				if err != nil && !begun && !between.exhausted() && unavailable(ctx, conn, err) {
					again = true
					break
				}
				begun = true
				if !yield(item, err) {
					return
				}
			}
			if !again {
				return
			}
			if !between.wait(ctx) {
				yield(nil, fromRPC(ctx.Err()))
				return
			}
		}
	}
}

// receiveOnce yields what a stream brings. Leaving it early ends the call.
func receiveOnce[Req, Item any](
	ctx context.Context, req Req, open streaming[Req, Item],
) iter.Seq2[*Item, error] {
	return func(yield func(*Item, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := open(ctx, req)
		if err != nil {
			yield(nil, fromRPC(err))
			return
		}
		for {
			item, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				if status.Code(err) == codes.Unavailable && ctx.Err() != nil {
					err = ctx.Err() // The caller's end of a call that was about to fail anyway.
				}
				yield(nil, fromRPC(err))
				return
			}
			if !yield(item, nil) {
				return
			}
		}
	}
}

// prepared returns a copy of a request, nil being an empty one, with a user and a request id where it
// has such fields and leaves them empty.
func prepared[Req proto.Message](req Req, userID string) Req {
	message := req.ProtoReflect()
	if message.IsValid() {
		req = proto.CloneOf(req)
		message = req.ProtoReflect()
	} else {
		message = message.New()
		req = message.Interface().(Req)
	}
	fill(message, "user_id", func() string { return userID })
	fill(message, "request_id", uuid.NewString)
	return req
}

func fill(message protoreflect.Message, name protoreflect.Name, value func() string) {
	field := message.Descriptor().Fields().ByName(name)
	if field != nil && message.Get(field).String() == "" {
		message.Set(field, protoreflect.ValueOfString(value()))
	}
}

// bounded gives a context the deadline that it lacks; a timeout of 0 gives none.
func bounded(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has || timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}
