// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package recollect

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/recollect-ai/recollect/clients/go/recollectv1"
)

// BenchmarkAppend compares the client with the stub given the same to send, in turns, so that both
// meet the same load. The server answers at once, which a real one does not.
func BenchmarkAppend(b *testing.B) {
	address := echo(b)
	client, err := New(address, WithUserID("ada"))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	conn, err := grpc.NewClient(
		address, grpc.WithTransportCredentials(insecure.NewCredentials()),
	)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	stub := pb.NewMemoryServiceClient(conn)
	byClient := func() error {
		_, err := client.Memory.AppendMessages(b.Context(), appended())
		return err
	}
	byStub := func() error {
		ctx, cancel := context.WithTimeout(b.Context(), DefaultTimeout)
		defer cancel()
		req := appended()
		req.UserId, req.RequestId = "ada", uuid.NewString()
		_, err := stub.AppendMessages(ctx, req)
		return err
	}
	var spent [2][]time.Duration
	for b.Loop() {
		for i, call := range []func() error{byClient, byStub} {
			began := time.Now()
			if err := call(); err != nil {
				b.Fatal(err)
			}
			spent[i] = append(spent[i], time.Since(began))
		}
	}
	b.ReportMetric(float64(median(spent[0]))/float64(median(spent[1])), "client/stub")
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

func appended() *pb.AppendMessagesRequest {
	return &pb.AppendMessagesRequest{
		SessionId: "s", Messages: []*pb.NewMessage{User("hello there"), Assistant("hello to you")},
	}
}

func echo(b *testing.B) string {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterMemoryServiceServer(server, &silent{})
	go func() { _ = server.Serve(listener) }()
	b.Cleanup(server.Stop)
	return listener.Addr().String()
}

// silent answers an append with nothing.
type silent struct {
	pb.UnimplementedMemoryServiceServer
}

func (*silent) AppendMessages(
	context.Context, *pb.AppendMessagesRequest,
) (*pb.AppendMessagesResponse, error) {
	return &pb.AppendMessagesResponse{}, nil
}
