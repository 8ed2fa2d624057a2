// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package recollect

import (
	"context"
	"errors"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/recollect-ai/recollect/clients/go/recollectv1"
)

// peer is a server that answers what a test asks for by the session's id.
type peer struct {
	pb.UnimplementedMemoryServiceServer
	pb.UnimplementedChatServiceServer

	mu       sync.Mutex
	appends  []*pb.AppendMessagesRequest
	metadata metadata.MD
	ended    chan struct{}
}

func (p *peer) AppendMessages(
	ctx context.Context, req *pb.AppendMessagesRequest,
) (*pb.AppendMessagesResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.appends = append(p.appends, req)
	p.metadata, _ = metadata.FromIncomingContext(ctx)
	if req.GetSessionId() == "flaky" && len(p.appends) < 3 {
		return nil, status.Error(codes.Unavailable, "not now")
	}
	return &pb.AppendMessagesResponse{SessionRevision: 7}, nil
}

func (p *peer) StreamChat(
	_ *pb.StreamChatRequest, stream grpc.ServerStreamingServer[pb.StreamChatResponse],
) error {
	defer close(p.ended)
	for sequence := int64(1); ; sequence++ {
		event := &pb.ChatEvent{Sequence: sequence}
		if err := stream.Send(&pb.StreamChatResponse{Event: event}); err != nil {
			return err
		}
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-time.After(time.Millisecond):
		}
	}
}

func serve(t *testing.T, options ...Option) (*peer, *Client) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	made := &peer{ended: make(chan struct{})}
	server := grpc.NewServer()
	pb.RegisterMemoryServiceServer(server, made)
	pb.RegisterChatServiceServer(server, made)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	client, err := New(listener.Addr().String(), append(options, WithUserID("ada"))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return made, client
}

func TestARequestIsNotChangedAndEachCallHasARequestIDThatRepeatsKeep(t *testing.T) {
	made, client := serve(t)
	req := &pb.AppendMessagesRequest{SessionId: "flaky", Messages: []*pb.NewMessage{User("x")}}
	before := proto.CloneOf(req)
	for range 2 {
		if _, err := client.Memory.AppendMessages(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	if !proto.Equal(req, before) {
		t.Errorf("the request became %v", req)
	}
	var ids []string
	for _, sent := range made.appends {
		ids = append(ids, sent.GetRequestId())
		if sent.GetUserId() != "ada" {
			t.Errorf("sent for the user %q", sent.GetUserId())
		}
	}
	if len(ids) != 4 || ids[0] != ids[1] || ids[1] != ids[2] || ids[2] == ids[3] || ids[0] == "" {
		t.Errorf("request ids %q", ids)
	}
}

func TestCallsMayBeMadeWithOneRequestByManyGoroutines(t *testing.T) {
	_, client := serve(t)
	req := &pb.AppendMessagesRequest{SessionId: "s", Messages: []*pb.NewMessage{User("x")}}
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if _, err := client.Memory.AppendMessages(t.Context(), req); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestTheTokenSourceIsAskedForEachCall(t *testing.T) {
	calls := 0
	made, client := serve(t, WithTokenSource(func(context.Context) (string, error) {
		calls++
		return strings.Repeat("t", calls), nil
	}))
	for _, want := range []string{"Bearer t", "Bearer tt"} {
		if _, err := client.Memory.AppendMessages(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got := made.metadata.Get("authorization"); !slices.Equal(got, []string{want}) {
			t.Errorf("sent %q, not %q", got, want)
		}
	}
}

func TestATokenSourceThatFailsFailsTheCall(t *testing.T) {
	_, client := serve(t, WithTokenSource(func(context.Context) (string, error) {
		return "", errors.New("no token today")
	}))
	_, err := client.Memory.AppendMessages(t.Context(), nil)
	if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "no token today") {
		t.Errorf("got %v", err)
	}
}

func TestLeavingAStreamEndsItOnTheServer(t *testing.T) {
	made, client := serve(t)
	for event, err := range client.Chat.Stream(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if event.GetSequence() == 3 {
			break
		}
	}
	select {
	case <-made.ended:
	case <-time.After(10 * time.Second):
		t.Error("the stream goes on")
	}
}

func TestAnErrorIsTheContextsToo(t *testing.T) {
	_, client := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	var failed error
	for event, err := range client.Chat.Stream(ctx, nil) {
		if failed = err; err == nil && event.GetSequence() == 2 {
			cancel()
		}
	}
	var known *Error
	if !errors.Is(failed, context.Canceled) || !errors.As(failed, &known) {
		t.Errorf("got %v", failed)
	}
	if known.Code != codes.Canceled || status.Code(failed) != codes.Canceled {
		t.Errorf("got %v", known.Code)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 0)
	defer cancel()
	if _, err := client.Memory.AppendMessages(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestACredentialDoesNotCrossTheNetworkInPlainText(t *testing.T) {
	for _, address := range []string{"example.com:443", "10.0.0.1:50051"} {
		if _, err := New(address, WithAPIKey("k")); err == nil {
			t.Errorf("%s: no error", address)
		}
		for _, allowed := range []Option{WithTLS(nil), WithInsecure()} {
			client, err := New(address, WithAPIKey("k"), allowed)
			if err != nil {
				t.Fatal(err)
			}
			_ = client.Close()
		}
	}
}

func TestTheEnvironmentIsRead(t *testing.T) {
	t.Setenv("RECOLLECT_ADDRESS", "127.0.0.1:9")
	t.Setenv("RECOLLECT_API_KEY", "k")
	t.Setenv("RECOLLECT_USER_ID", "bob")
	t.Setenv("RECOLLECT_TLS", "")
	client, err := NewFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	token, err := client.settings.tokens(t.Context())
	if client.conn.Target() != "127.0.0.1:9" || client.settings.userID != "bob" || token != "k" ||
		err != nil || client.settings.tls != nil {
		t.Errorf("made %v with %+v", client.conn.Target(), client.settings)
	}
}

// renamed lists the methods that have another name here than in the contract.
var renamed = map[string]string{
	"Chat": "Send", "StreamChat": "Stream", "ResumeChat": "Resume", "CreateApiKey": "CreateAPIKey",
	"ListApiKeys": "ListAPIKeys", "RevokeApiKey": "RevokeAPIKey",
}

func services() []protoreflect.ServiceDescriptor {
	return []protoreflect.ServiceDescriptor{
		pb.File_recollect_v1_memory_proto.Services().Get(0),
		pb.File_recollect_v1_cache_proto.Services().Get(0),
		pb.File_recollect_v1_chat_proto.Services().Get(0),
		pb.File_recollect_v1_admin_proto.Services().Get(0),
	}
}

func TestThereIsAMethodForEveryRPC(t *testing.T) {
	for _, service := range services() {
		part := strings.TrimSuffix(string(service.Name()), "Service")
		field, _ := reflect.TypeFor[Client]().FieldByName(part)
		var want, got []string
		for i := range service.Methods().Len() {
			name := string(service.Methods().Get(i).Name())
			if other, ok := renamed[name]; ok {
				name = other
			}
			want = append(want, name)
		}
		for i := range field.Type.NumMethod() {
			got = append(got, field.Type.Method(i).Name)
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s has %q, the contract %q", part, got, want)
		}
	}
}
