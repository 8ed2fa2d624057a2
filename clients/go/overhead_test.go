// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package recollect

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/recollect-ai/recollect/clients/go/recollectv1"
)

// What the client adds to a call: compare the two, with -bench Append.

func BenchmarkAppendByTheClient(b *testing.B) {
	client, err := New(echo(b), WithUserID("ada"))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	for b.Loop() {
		if _, err := client.Memory.AppendMessages(b.Context(), appended()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendByTheStub(b *testing.B) {
	conn, err := grpc.NewClient(
		echo(b), grpc.WithTransportCredentials(insecure.NewCredentials()),
	)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	stub := pb.NewMemoryServiceClient(conn)
	for b.Loop() {
		if _, err := stub.AppendMessages(b.Context(), appended()); err != nil {
			b.Fatal(err)
		}
	}
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
