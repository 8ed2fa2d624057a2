// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package recollect

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

const (
	// DefaultAddress is where `make run` serves.
	DefaultAddress = "127.0.0.1:50051"
	// DefaultTimeout bounds a call whose context has no deadline.
	DefaultTimeout = 30 * time.Second
	// DefaultChatTimeout bounds a chat call whose context has no deadline.
	DefaultChatTimeout = 5 * time.Minute
)

// TokenSource returns the credential of a call: an API key or a token. It is asked before each call,
// so it should keep what it got until it expires.
type TokenSource func(context.Context) (string, error)

// Option is a choice made when a client is made.
type Option func(*settings)

// WithUserID sets whose memory it is where a request leaves user_id empty. Default: none; the server
// refuses such a request.
func WithUserID(userID string) Option { return func(s *settings) { s.userID = userID } }

// WithAPIKey sends an API key with every call.
func WithAPIKey(key string) Option {
	return WithTokenSource(func(context.Context) (string, error) { return key, nil })
}

// WithTokenSource sends what the source returns with every call, as a bearer token.
func WithTokenSource(source TokenSource) Option { return func(s *settings) { s.tokens = source } }

// WithTLS encrypts; nil trusts the system's authorities. Default: plain text.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) {
		if config == nil {
			config = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		s.tls = config
	}
}

// WithInsecure allows a credential to cross the network in plain text, on a network that is trusted.
func WithInsecure() Option { return func(s *settings) { s.insecure = true } }

// WithTimeout bounds calls whose context has no deadline. Default: [DefaultTimeout].
func WithTimeout(timeout time.Duration) Option { return func(s *settings) { s.timeout = timeout } }

// WithChatTimeout bounds chat calls whose context has no deadline. Default: [DefaultChatTimeout].
func WithChatTimeout(timeout time.Duration) Option {
	return func(s *settings) { s.chatTimeout = timeout }
}

// WithDialOptions adds options of gRPC, such as interceptors that trace.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) { s.dial = append(s.dial, options...) }
}

// NewFromEnv is [New] with RECOLLECT_ADDRESS, RECOLLECT_API_KEY, RECOLLECT_USER_ID and RECOLLECT_TLS;
// the options given win.
func NewFromEnv(options ...Option) (*Client, error) {
	var found []Option
	if key := os.Getenv("RECOLLECT_API_KEY"); key != "" {
		found = append(found, WithAPIKey(key))
	}
	if user := os.Getenv("RECOLLECT_USER_ID"); user != "" {
		found = append(found, WithUserID(user))
	}
	if slices.Contains([]string{"1", "true", "yes"}, strings.ToLower(os.Getenv("RECOLLECT_TLS"))) {
		found = append(found, WithTLS(nil))
	}
	address := os.Getenv("RECOLLECT_ADDRESS")
	if address == "" {
		address = DefaultAddress
	}
	return New(address, append(found, options...)...)
}

type settings struct {
	userID      string
	tokens      TokenSource
	tls         *tls.Config
	insecure    bool
	timeout     time.Duration
	chatTimeout time.Duration
	dial        []grpc.DialOption
}

func defaults() settings {
	return settings{timeout: DefaultTimeout, chatTimeout: DefaultChatTimeout}
}

func (s *settings) dialOptions(address string) ([]grpc.DialOption, error) {
	transport := insecure.NewCredentials()
	if s.tls != nil {
		transport = credentials.NewTLS(s.tls)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDisableRetry(),
		grpc.WithChainUnaryInterceptor(repeat),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)),
		// gRPC's own, 1 s growing to 2 min, leaves a server that is back unused for long. The longest
		// is less than the pauses of a call's repeats together, so that they do not all fall into it.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: firstPause, Multiplier: 1.6, Jitter: 0.2, MaxDelay: longestPause,
			},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: time.Minute, Timeout: 20 * time.Second,
		}),
	}
	if s.tokens != nil {
		if s.tls == nil && !s.insecure && !isLocal(address) {
			return nil, fmt.Errorf("recollect: a credential would cross the network to %s in plain "+
				"text: use WithTLS, or WithInsecure if the network is trusted", address)
		}
		options = append(options, grpc.WithPerRPCCredentials(bearer{s.tokens, s.tls != nil}))
	}
	return append(options, s.dial...), nil
}

// bearer puts a token into the metadata of each call.
type bearer struct {
	source TokenSource
	secure bool
}

func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := b.source(ctx)
	if err != nil {
		return nil, err
	}
	if token == "" {
		return nil, errors.New("recollect: the token source returned no token")
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

func (b bearer) RequireTransportSecurity() bool { return b.secure }

// isLocal says whether calls to an address stay on this machine.
func isLocal(address string) bool {
	if strings.HasPrefix(address, "unix:") || strings.HasPrefix(address, "unix-abstract:") {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
