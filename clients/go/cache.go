// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package recollect

import (
	"context"
	"iter"

	pb "github.com/recollect-ai/recollect/clients/go/recollectv1"
)

// Cache is the answer cache. A miss is a result, not an error.
type Cache struct {
	client *Client
	stub   pb.CacheServiceClient
}

// Lookup looks for an answer to a prompt.
func (m *Cache) Lookup(
	ctx context.Context, req *pb.LookupRequest,
) (*pb.LookupResponse, error) {
	return call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.Lookup)
}

// BatchLookup looks for answers to several prompts at once; the results are in their order.
func (m *Cache) BatchLookup(
	ctx context.Context, req *pb.BatchLookupRequest,
) ([]*pb.LookupResponse, error) {
	req = prepared(req, m.client.settings.userID)
	for _, lookup := range req.GetLookups() {
		if lookup.GetUserId() == "" {
			lookup.UserId = req.GetUserId()
		}
	}
	resp, err := call(ctx, m.client.settings.timeout, req, m.stub.BatchLookup)
	return resp.GetResults(), err
}

// Store stores the answer to a prompt.
func (m *Cache) Store(
	ctx context.Context, req *pb.StoreRequest,
) (*pb.CacheEntry, error) {
	resp, err := call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.Store)
	return resp.GetEntry(), err
}

// Invalidate removes the entries that the selector names and returns how many they were.
func (m *Cache) Invalidate(
	ctx context.Context, req *pb.InvalidateRequest,
) (int64, error) {
	resp, err := call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.Invalidate)
	return resp.GetCount(), err
}

// ReportFeedback says that a served answer was right or wrong.
func (m *Cache) ReportFeedback(
	ctx context.Context, req *pb.ReportFeedbackRequest,
) error {
	_, err := call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.ReportFeedback)
	return err
}

// GetStats returns hits, misses, savings and observed errors.
func (m *Cache) GetStats(
	ctx context.Context, req *pb.GetStatsRequest,
) (*pb.GetStatsResponse, error) {
	return call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.GetStats)
}

// ListEntries yields the entries of a scope, newest first, over all pages.
func (m *Cache) ListEntries(
	ctx context.Context, req *pb.ListEntriesRequest,
) iter.Seq2[*pb.CacheEntry, error] {
	return list(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.ListEntries,
		(*pb.ListEntriesResponse).GetEntries)
}

// GetEntry returns an entry.
func (m *Cache) GetEntry(
	ctx context.Context, req *pb.GetEntryRequest,
) (*pb.CacheEntry, error) {
	resp, err := call(ctx, m.client.settings.timeout, prepared(req, m.client.settings.userID), m.stub.GetEntry)
	return resp.GetEntry(), err
}
