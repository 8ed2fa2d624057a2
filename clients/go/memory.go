// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package recollect

import (
	"context"
	"iter"

	pb "github.com/recollect-ai/recollect/clients/go/recollectv1"
)

// Memory is conversation memory: sessions and their messages, facts, recall, and changes as they
// happen.
type Memory struct {
	client *Client
	stub   pb.MemoryServiceClient
}

// CreateSession creates a session; without an id the server makes one.
func (m *Memory) CreateSession(
	ctx context.Context, req *pb.CreateSessionRequest,
) (*pb.Session, error) {
	resp, err := call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.CreateSession)
	return resp.GetSession(), err
}

// GetSession returns a session.
func (m *Memory) GetSession(
	ctx context.Context, req *pb.GetSessionRequest,
) (*pb.Session, error) {
	resp, err := call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.GetSession)
	return resp.GetSession(), err
}

// ListSessions yields a user's sessions, most recently updated first, over all pages.
func (m *Memory) ListSessions(
	ctx context.Context, req *pb.ListSessionsRequest,
) iter.Seq2[*pb.Session, error] {
	return list(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.ListSessions,
		(*pb.ListSessionsResponse).GetSessions)
}

// UpdateSession changes the fields that the mask names.
func (m *Memory) UpdateSession(
	ctx context.Context, req *pb.UpdateSessionRequest,
) (*pb.Session, error) {
	resp, err := call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.UpdateSession)
	return resp.GetSession(), err
}

// ClearSession starts the conversation anew; the transcript stays.
func (m *Memory) ClearSession(
	ctx context.Context, req *pb.ClearSessionRequest,
) (*pb.Session, error) {
	resp, err := call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.ClearSession)
	return resp.GetSession(), err
}

// DeleteSession deletes a session and what was drawn from it alone.
func (m *Memory) DeleteSession(
	ctx context.Context, req *pb.DeleteSessionRequest,
) error {
	_, err := call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.DeleteSession)
	return err
}

// AppendMessages appends messages, all or none; they are durable when it returns.
func (m *Memory) AppendMessages(
	ctx context.Context, req *pb.AppendMessagesRequest,
) (*pb.AppendMessagesResponse, error) {
	return call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.AppendMessages)
}

// ListMessages yields a session's messages over all pages.
func (m *Memory) ListMessages(
	ctx context.Context, req *pb.ListMessagesRequest,
) iter.Seq2[*pb.Message, error] {
	return list(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.ListMessages,
		(*pb.ListMessagesResponse).GetMessages)
}

// GetContext returns what to put into a model's prompt.
func (m *Memory) GetContext(
	ctx context.Context, req *pb.GetContextRequest,
) (*pb.GetContextResponse, error) {
	return call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.GetContext)
}

// Remember stores facts, all or none; they are durable when it returns.
func (m *Memory) Remember(
	ctx context.Context, req *pb.RememberRequest,
) (*pb.RememberResponse, error) {
	return call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.Remember)
}

// Recall finds facts, turns and episodes by meaning and words.
func (m *Memory) Recall(
	ctx context.Context, req *pb.RecallRequest,
) (*pb.RecallResponse, error) {
	return call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.Recall)
}

// GetFact returns the current version of a fact.
func (m *Memory) GetFact(
	ctx context.Context, req *pb.GetFactRequest,
) (*pb.Fact, error) {
	resp, err := call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.GetFact)
	return resp.GetFact(), err
}

// ListFacts yields a user's facts, most recently recorded first, over all pages.
func (m *Memory) ListFacts(
	ctx context.Context, req *pb.ListFactsRequest,
) iter.Seq2[*pb.Fact, error] {
	return list(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.ListFacts,
		(*pb.ListFactsResponse).GetFacts)
}

// UpdateFact writes the next version of a fact.
func (m *Memory) UpdateFact(
	ctx context.Context, req *pb.UpdateFactRequest,
) (*pb.Fact, error) {
	resp, err := call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.UpdateFact)
	return resp.GetFact(), err
}

// ForgetFact deletes a fact with its whole history.
func (m *Memory) ForgetFact(
	ctx context.Context, req *pb.ForgetFactRequest,
) error {
	_, err := call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.ForgetFact)
	return err
}

// GetFactHistory returns every version of a fact, oldest first.
func (m *Memory) GetFactHistory(
	ctx context.Context, req *pb.GetFactHistoryRequest,
) ([]*pb.Fact, error) {
	resp, err := call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.GetFactHistory)
	return resp.GetVersions(), err
}

// ExtractFacts extracts facts from a session's messages not yet read, now.
func (m *Memory) ExtractFacts(
	ctx context.Context, req *pb.ExtractFactsRequest,
) (*pb.ExtractFactsResponse, error) {
	return call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.ExtractFacts)
}

// CompactSession brings a session's rolling summary up to date, now.
func (m *Memory) CompactSession(
	ctx context.Context, req *pb.CompactSessionRequest,
) (*pb.Session, error) {
	resp, err := call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.CompactSession)
	return resp.GetSession(), err
}

// ListEpisodes yields a user's episodes, newest first, over all pages.
func (m *Memory) ListEpisodes(
	ctx context.Context, req *pb.ListEpisodesRequest,
) iter.Seq2[*pb.Episode, error] {
	return list(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.ListEpisodes,
		(*pb.ListEpisodesResponse).GetEpisodes)
}

// GetEpisode returns an episode.
func (m *Memory) GetEpisode(
	ctx context.Context, req *pb.GetEpisodeRequest,
) (*pb.Episode, error) {
	resp, err := call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.GetEpisode)
	return resp.GetEpisode(), err
}
