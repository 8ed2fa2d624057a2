// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package recollect

import (
	"context"
	"errors"
	"io"
	"iter"

	pb "github.com/recollect-ai/recollect/clients/go/recollectv1"
)

// Admin is administration of a tenant and of the server. Its requests name their user themselves.
type Admin struct {
	client *Client
	stub   pb.AdminServiceClient
}

// EraseUser erases a user everywhere and returns the receipt.
func (m *Admin) EraseUser(
	ctx context.Context, req *pb.EraseUserRequest,
) (*pb.EraseUserResponse, error) {
	return call(ctx, m.client.settings.timeout, prepared(req, ""), m.stub.EraseUser)
}

// ExportUser yields everything kept of a user, a JSON object each.
func (m *Admin) ExportUser(
	ctx context.Context, req *pb.ExportUserRequest,
) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for record, err := range receive(ctx, prepared(req, ""), m.stub.ExportUser) {
			if !yield(record.GetRecordJson(), err) {
				return
			}
		}
	}
}

// ImportUser stores what ExportUser yields, here or at another server, and returns the number of
// records.
func (m *Admin) ImportUser(
	ctx context.Context, userID string, records iter.Seq2[string, error],
) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	upload, err := m.stub.ImportUser(ctx)
	if err != nil {
		return 0, fromRPC(err)
	}
	for record, err := range records {
		if err != nil {
			return 0, err
		}
		err = upload.Send(&pb.ImportUserRequest{UserId: userID, RecordJson: record})
		if errors.Is(err, io.EOF) {
			break // The server has ended the call; CloseAndRecv says why.
		}
		if err != nil {
			return 0, fromRPC(err)
		}
	}
	resp, err := upload.CloseAndRecv()
	return resp.GetRecords(), fromRPC(err)
}

// ListAuditEvents yields the tenant's audit events, newest first, over all pages.
func (m *Admin) ListAuditEvents(
	ctx context.Context, req *pb.ListAuditEventsRequest,
) iter.Seq2[*pb.AuditEvent, error] {
	return list(ctx, m.client.settings.timeout, prepared(req, ""), m.stub.ListAuditEvents,
		(*pb.ListAuditEventsResponse).GetEvents)
}

// CreateAPIKey makes an API key; its token is in the response and nowhere else.
func (m *Admin) CreateAPIKey(
	ctx context.Context, req *pb.CreateApiKeyRequest,
) (*pb.CreateApiKeyResponse, error) {
	return call(ctx, m.client.settings.timeout, prepared(req, ""), m.stub.CreateApiKey)
}

// ListAPIKeys yields the tenant's API keys, newest first, over all pages.
func (m *Admin) ListAPIKeys(
	ctx context.Context, req *pb.ListApiKeysRequest,
) iter.Seq2[*pb.ApiKey, error] {
	return list(ctx, m.client.settings.timeout, prepared(req, ""), m.stub.ListApiKeys,
		(*pb.ListApiKeysResponse).GetApiKeys)
}

// RevokeAPIKey revokes an API key at once.
func (m *Admin) RevokeAPIKey(
	ctx context.Context, req *pb.RevokeApiKeyRequest,
) (*pb.ApiKey, error) {
	resp, err := call(ctx, m.client.settings.timeout, prepared(req, ""), m.stub.RevokeApiKey)
	return resp.GetApiKey(), err
}

// Reindex builds an index anew, in the background, and returns the job's id.
func (m *Admin) Reindex(
	ctx context.Context, req *pb.ReindexRequest,
) (string, error) {
	resp, err := call(ctx, m.client.settings.timeout, prepared(req, ""), m.stub.Reindex)
	return resp.GetJobId(), err
}

// ListJobs yields background jobs, dead letters first, over all pages.
func (m *Admin) ListJobs(
	ctx context.Context, req *pb.ListJobsRequest,
) iter.Seq2[*pb.Job, error] {
	return list(ctx, m.client.settings.timeout, prepared(req, ""), m.stub.ListJobs,
		(*pb.ListJobsResponse).GetJobs)
}

// RetryJob makes a job due now that does not run, a dead letter too.
func (m *Admin) RetryJob(
	ctx context.Context, req *pb.RetryJobRequest,
) (*pb.Job, error) {
	resp, err := call(ctx, m.client.settings.timeout, prepared(req, ""), m.stub.RetryJob)
	return resp.GetJob(), err
}

// GetServerInfo says what the server is, what it uses, and who the caller is to it.
func (m *Admin) GetServerInfo(
	ctx context.Context, req *pb.GetServerInfoRequest,
) (*pb.GetServerInfoResponse, error) {
	return call(ctx, m.client.settings.timeout, prepared(req, ""), m.stub.GetServerInfo)
}

// GetUsage says what the tenant, or one user, uses of each limit.
func (m *Admin) GetUsage(
	ctx context.Context, req *pb.GetUsageRequest,
) ([]*pb.LimitUsage, error) {
	resp, err := call(ctx, m.client.settings.timeout, prepared(req, ""), m.stub.GetUsage)
	return resp.GetLimits(), err
}
