// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

// Command conformance is the Go client's runner; tests/conformance/README.md has the protocol.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	recollect "github.com/recollect-ai/recollect/clients/go"
)

// names lists the methods that have another name in Go than in the contract.
var names = map[string]string{
	"Chat": "Send", "StreamChat": "Stream", "ResumeChat": "Resume", "CreateApiKey": "CreateAPIKey",
	"ListApiKeys": "ListAPIKeys", "RevokeApiKey": "RevokeAPIKey",
}

type step struct {
	ID      int             `json:"id"`
	Do      string          `json:"do"`
	Client  string          `json:"client"`
	Options options         `json:"options"`
	Method  string          `json:"method"`
	Request json.RawMessage `json:"request"`
	Timeout float64         `json:"timeout"`
	Take    int             `json:"take"`
	Call    int             `json:"call"`
}

type options struct {
	Address  string  `json:"address"`
	UserID   string  `json:"user_id"`
	APIKey   string  `json:"api_key"`
	TLS      bool    `json:"tls"`
	TLSRoots string  `json:"tls_roots"`
	Timeout  float64 `json:"timeout"`
}

type runner struct {
	mu      sync.Mutex
	out     *json.Encoder
	clients map[string]*recollect.Client
	cancels map[int]context.CancelFunc
}

func main() {
	r := &runner{
		out:     json.NewEncoder(os.Stdout),
		clients: map[string]*recollect.Client{},
		cancels: map[int]context.CancelFunc{},
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var s step
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		r.execute(s)
	}
}

func (r *runner) execute(s step) {
	switch s.Do {
	case "open":
		client, err := open(s.Options)
		if err != nil {
			r.say(s.ID, "error", map[string]any{"code": "CLIENT", "message": err.Error()})
			return
		}
		r.clients[s.Client] = client
		r.say(s.ID, "value", nil)
	case "close":
		_ = r.clients[s.Client].Close()
		r.say(s.ID, "value", nil)
	case "cancel":
		r.cancels[s.Call]()
		r.say(s.ID, "value", nil)
	case "call":
		ctx, cancel := context.WithCancel(context.Background())
		if s.Timeout > 0 {
			ctx, cancel = context.WithTimeout(ctx, time.Duration(s.Timeout*float64(time.Second)))
		}
		r.cancels[s.ID] = cancel
		go r.call(ctx, r.clients[s.Client], s)
	}
}

func open(o options) (*recollect.Client, error) {
	found := []recollect.Option{recollect.WithUserID(o.UserID)}
	if o.APIKey != "" {
		found = append(found, recollect.WithAPIKey(o.APIKey))
	}
	if o.Timeout > 0 {
		found = append(found, recollect.WithTimeout(time.Duration(o.Timeout*float64(time.Second))))
	}
	if o.TLS {
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if o.TLSRoots != "" {
			pem, err := os.ReadFile(o.TLSRoots)
			if err != nil {
				return nil, err
			}
			config.RootCAs = x509.NewCertPool()
			config.RootCAs.AppendCertsFromPEM(pem)
		}
		found = append(found, recollect.WithTLS(config))
	}
	return recollect.New(o.Address, found...)
}

func (r *runner) call(ctx context.Context, client *recollect.Client, s step) {
	service, rpc, _ := strings.Cut(s.Method, "/")
	name, renamed := names[rpc]
	if !renamed {
		name = rpc
	}
	part := reflect.ValueOf(client).Elem().FieldByName(strings.TrimSuffix(service, "Service"))
	method := part.MethodByName(name)
	arguments, err := r.arguments(ctx, method, s.Request)
	if err != nil {
		r.say(s.ID, "error", map[string]any{"code": "CLIENT", "message": err.Error()})
		return
	}
	results := method.Call(arguments)
	last := results[len(results)-1]
	switch {
	case last.Kind() == reflect.Func:
		r.items(s, last)
	case !last.IsNil():
		r.fail(s.ID, last.Interface().(error))
	case len(results) == 1:
		r.say(s.ID, "value", nil)
	default:
		kind := "value"
		if strings.HasSuffix(results[0].Type().String(), "Response") &&
			results[0].Kind() == reflect.Pointer {
			kind = "result"
		}
		r.say(s.ID, kind, plain(results[0]))
	}
}

// arguments are the context and the request, or what ImportUser takes.
func (r *runner) arguments(
	ctx context.Context, method reflect.Value, request json.RawMessage,
) ([]reflect.Value, error) {
	kind := method.Type().In(1)
	if kind.Kind() != reflect.String {
		message := reflect.New(kind.Elem())
		err := protojson.Unmarshal(request, message.Interface().(proto.Message))
		return []reflect.Value{reflect.ValueOf(ctx), message}, err
	}
	var uploads []struct {
		UserID     string `json:"user_id"`
		RecordJSON string `json:"record_json"`
	}
	if err := json.Unmarshal(request, &uploads); err != nil {
		return nil, err
	}
	var records iter.Seq2[string, error] = func(yield func(string, error) bool) {
		for _, upload := range uploads {
			if !yield(upload.RecordJSON, nil) {
				return
			}
		}
	}
	user := reflect.ValueOf(uploads[0].UserID)
	return []reflect.Value{reflect.ValueOf(ctx), user, reflect.ValueOf(records)}, nil
}

// items says what an iterator yields.
func (r *runner) items(s step, iterator reflect.Value) {
	seen := 0
	for item, err := range iterator.Seq2() {
		if !err.IsNil() {
			r.fail(s.ID, err.Interface().(error))
			return
		}
		r.say(s.ID, "item", plain(item))
		if seen++; seen == s.Take {
			break
		}
	}
	r.say(s.ID, "value", nil)
}

func plain(value reflect.Value) any {
	if message, ok := value.Interface().(proto.Message); ok {
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
		if err != nil {
			panic(err)
		}
		return json.RawMessage(text)
	}
	if value.Kind() != reflect.Slice {
		return value.Interface()
	}
	all := make([]any, value.Len())
	for i := range all {
		all[i] = plain(value.Index(i))
	}
	return all
}

func (r *runner) fail(id int, err error) {
	var failed *recollect.Error
	if !errors.As(err, &failed) {
		r.say(id, "error", map[string]any{"code": "CLIENT", "message": err.Error()})
		return
	}
	violations := []map[string]string{}
	for _, v := range failed.FieldViolations {
		violations = append(violations, map[string]string{
			"field": v.Field, "description": v.Description,
		})
	}
	r.say(id, "error", map[string]any{
		"code":             code.Code_name[int32(failed.Code)],
		"reason":           failed.Reason,
		"message":          failed.Message,
		"field_violations": violations,
		"retry_after":      failed.RetryAfter.Seconds(),
		"metadata":         failed.Metadata,
		"call_id":          failed.CallID,
	})
}

func (r *runner) say(id int, kind string, what any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.out.Encode(map[string]any{"id": id, kind: what}); err != nil {
		os.Exit(1)
	}
}
