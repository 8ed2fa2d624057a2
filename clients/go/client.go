// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

// Package recollect is the client of the Recollect memory server.
//
// A [Client] has a part for each service: Memory, Cache, Chat and Admin, each with a method for
// every RPC. Requests and results are the messages of recollectv1; a request may be nil where every
// field has a default. Lists and streams are iterators; leaving one early ends the call.
//
// Calls that find the server unavailable are repeated up to four times with growing pauses, but for an
// import. Writes carry a request id, which the client makes and a repeat reuses, so that a repeat is
// done once. A watch and a chat stream go on by themselves where they broke off.
//
// A call whose context has no deadline gets one: 30 seconds, 5 minutes for chat, or what
// [WithTimeout] and [WithChatTimeout] say; a watch, an export and an import get none.
//
// A call that fails returns an [*Error].
package recollect

import (
	"google.golang.org/grpc"

	pb "github.com/recollect-ai/recollect/clients/go/recollectv1"
)

// Client is a connection to a server. It may be used by many goroutines at once.
type Client struct {
	Memory *Memory // Sessions, messages, facts, recall.
	Cache  *Cache  // The answer cache.
	Chat   *Chat   // Chat with memory and cache.
	Admin  *Admin  // Keys and the server itself.

	conn     *grpc.ClientConn
	settings settings
}

// New returns a client of the server at an address, HOST:PORT or unix:PATH. It connects when the
// first call is made.
//
// It fails if the address is not one, or if a credential would cross the network in plain text.
func New(address string, options ...Option) (*Client, error) {
	s := defaults()
	for _, option := range options {
		option(&s)
	}
	dial, err := s.dialOptions(address)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(address, dial...)
	if err != nil {
		return nil, err
	}
	c := &Client{conn: conn, settings: s}
	c.Memory = &Memory{client: c, stub: pb.NewMemoryServiceClient(conn)}
	c.Cache = &Cache{client: c, stub: pb.NewCacheServiceClient(conn)}
	c.Chat = &Chat{client: c, stub: pb.NewChatServiceClient(conn)}
	c.Admin = &Admin{client: c, stub: pb.NewAdminServiceClient(conn)}
	return c, nil
}

// Conn returns the connection, for stubs of one's own; it carries the client's credential and
// repeats unary calls as the client does.
func (c *Client) Conn() grpc.ClientConnInterface { return c.conn }

// Close ends all calls and closes the connection.
func (c *Client) Close() error { return c.conn.Close() }
