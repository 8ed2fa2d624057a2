// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package recollect

import (
	"context"
	"iter"

	pb "github.com/recollect-ai/recollect/clients/go/recollectv1"
)

// Chat is chat with memory and cache.
type Chat struct {
	client *Client
	stub   pb.ChatServiceClient
}

// Send sends a message and returns the turn with its reply.
func (m *Chat) Send(ctx context.Context, req *pb.ChatRequest) (*pb.Turn, error) {
	req = prepared(req, m.client.settings.userID)
	resp, err := call(ctx, m.client.settings.chatTimeout, req, m.stub.Chat)
	return resp.GetTurn(), err
}

// Stream sends a message and yields what happens; the last event is `done`.
//
// When the connection breaks, the events go on after the last one seen, without gap or repeat, as long
// as the deadline allows; without one for a minute without an event.
func (m *Chat) Stream(
	ctx context.Context, req *pb.StreamChatRequest,
) iter.Seq2[*pb.ChatEvent, error] {
	return func(yield func(*pb.ChatEvent, error) bool) {
		req := prepared(req, m.client.settings.userID)
		seen := &pb.ResumeChatRequest{UserId: req.GetUserId()}
		begin := func(ctx context.Context) iter.Seq2[*pb.ChatEvent, error] {
			return events(ctx, req, m.stub.StreamChat)
		}
		m.follow(ctx, seen, begin, yield)
	}
}

// Resume yields the events of a turn after the last one seen, as Stream does.
func (m *Chat) Resume(
	ctx context.Context, req *pb.ResumeChatRequest,
) iter.Seq2[*pb.ChatEvent, error] {
	return func(yield func(*pb.ChatEvent, error) bool) {
		seen := prepared(req, m.client.settings.userID)
		m.follow(ctx, seen, m.resume(seen), yield)
	}
}

// GetTurn returns a turn.
func (m *Chat) GetTurn(ctx context.Context, req *pb.GetTurnRequest) (*pb.Turn, error) {
	req = prepared(req, m.client.settings.userID)
	resp, err := call(ctx, m.client.settings.timeout, req, m.stub.GetTurn)
	return resp.GetTurn(), err
}

// CancelTurn ends a running turn; what was said is kept.
func (m *Chat) CancelTurn(ctx context.Context, req *pb.CancelTurnRequest) (*pb.Turn, error) {
	req = prepared(req, m.client.settings.userID)
	resp, err := call(ctx, m.client.settings.timeout, req, m.stub.CancelTurn)
	return resp.GetTurn(), err
}

// follow yields the events of a turn. A stream that breaks is resumed after the last event seen.
// Before the first event the stream itself is begun again, with the same request id.
func (m *Chat) follow(
	ctx context.Context, seen *pb.ResumeChatRequest,
	open func(context.Context) iter.Seq2[*pb.ChatEvent, error],
	yield func(*pb.ChatEvent, error) bool,
) {
	ctx, cancel := bounded(ctx, m.client.settings.chatTimeout)
	defer cancel()
	var between pauses
	for {
		var failed error
		begun := false
		for event, err := range open(ctx) {
			if err != nil {
				failed = err
				break
			}
			if started := event.GetStarted(); started != nil {
				seen.TurnId, seen.Attempt = started.GetTurnId(), started.GetAttempt()
			}
			seen.AfterSequence = event.GetSequence()
			begun = true
			between.reset()
			if !yield(event, nil) {
				return
			}
		}
		if failed == nil {
			return
		}
		var again bool
		if seen.GetTurnId() != "" && lost(ctx, m.client.conn, failed) {
			again = between.goesOn(ctx)
		} else {
			again = !begun && !between.exhausted() && unavailable(ctx, m.client.conn, failed)
		}
		if !again {
			yield(nil, failed)
			return
		}
		if !between.wait(ctx) {
			yield(nil, fromRPC(ctx.Err()))
			return
		}
		if seen.GetTurnId() != "" {
			open = m.resume(seen)
		}
	}
}

func (m *Chat) resume(
	seen *pb.ResumeChatRequest,
) func(context.Context) iter.Seq2[*pb.ChatEvent, error] {
	return func(ctx context.Context) iter.Seq2[*pb.ChatEvent, error] {
		return events(ctx, seen, m.stub.ResumeChat)
	}
}

// events yields the events of a stream of them.
func events[Req any, Item any, Ptr interface {
	*Item
	GetEvent() *pb.ChatEvent
}](
	ctx context.Context, req Req, open streaming[Req, Item],
) iter.Seq2[*pb.ChatEvent, error] {
	return func(yield func(*pb.ChatEvent, error) bool) {
		for item, err := range receiveOnce(ctx, req, open) {
			if !yield(Ptr(item).GetEvent(), err) {
				return
			}
		}
	}
}
