// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"

	connectcors "connectrpc.com/cors"
	"connectrpc.com/vanguard"
	"github.com/rs/cors"

	recollectv1 "github.com/recollect-ai/recollect/clients/go/recollectv1"
)

const (
	// preflight is how long a browser may remember what an origin may do.
	preflight = time.Hour
	// messageBytes bounds what a call can make the gateway hold of one message. Requests are refused
	// by the server above 4 MiB, with a reason; the largest responses are pages of the largest messages.
	messageBytes = 64 << 20
)

// services are those that a page may call. Administration is nothing for a browser.
var services = []string{
	recollectv1.MemoryService_ServiceDesc.ServiceName,
	recollectv1.CacheService_ServiceDesc.ServiceName,
	recollectv1.ChatService_ServiceDesc.ServiceName,
}

func newHandler(s settings) (http.Handler, error) {
	for _, origin := range s.origins {
		if err := checkOrigin(origin); err != nil {
			return nil, err
		}
	}
	proxy, err := newProxy(s)
	if err != nil {
		return nil, err
	}
	served := make([]*vanguard.Service, len(services))
	for i, name := range services {
		served[i] = vanguard.NewService(name, proxy)
	}
	transcoder, err := vanguard.NewTranscoder(served, vanguard.WithDefaultServiceOptions(
		vanguard.WithTargetProtocols(vanguard.ProtocolGRPC),
		vanguard.WithTargetCodecs(vanguard.CodecProto),
		vanguard.WithNoTargetCompression(),
		vanguard.WithMaxMessageBufferBytes(messageBytes),
	))
	if err != nil {
		return nil, err
	}
	// rs/cors takes an empty list for everyone.
	allowed := make(map[string]bool, len(s.origins))
	for _, origin := range s.origins {
		allowed[origin] = true
	}
	return cors.New(cors.Options{
		AllowOriginFunc: func(origin string) bool { return allowed[origin] },
		AllowedMethods:  connectcors.AllowedMethods(),
		AllowedHeaders:  append(connectcors.AllowedHeaders(), "Authorization"),
		ExposedHeaders:  append(connectcors.ExposedHeaders(), "X-Request-Id", "Trailer-X-Request-Id"),
		MaxAge:          int(preflight.Seconds()),
	}).Handler(fullDuplex(transcoder)), nil
}

// fullDuplex lets a response begin before its request has been read to the end, which a stream does
// and HTTP/1.1 would cut off.
func fullDuplex(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil && r.ProtoMajor == 1 {
			slog.Warn("streams may be cut off", "error", err)
		}
		next.ServeHTTP(w, r)
	})
}

// checkOrigin refuses what no browser sends as an origin, which would allow nobody.
func checkOrigin(origin string) error {
	parsed, err := url.Parse(origin)
	if err != nil || parsed.Host == "" || parsed.Scheme+"://"+parsed.Host != origin {
		return fmt.Errorf("--allow-origin %s: want a scheme and a host, as https://app.example.com", origin)
	}
	return nil
}

// newProxy returns what hands calls of gRPC on to the server.
func newProxy(s settings) (*httputil.ReverseProxy, error) {
	server, err := url.Parse(s.server)
	if err != nil || server.Host == "" || server.Scheme != "http" && server.Scheme != "https" {
		return nil, fmt.Errorf("--server %s: want http://host:port or https://host:port", s.server)
	}
	if server.Scheme == "http" && !s.insecure && !local(server.Host) {
		return nil, fmt.Errorf("--server %s: credentials would cross the network in plain text; use https, or --insecure", s.server)
	}
	transport := &http.Transport{Protocols: new(http.Protocols), IdleConnTimeout: idleTimeout}
	transport.Protocols.SetHTTP2(server.Scheme == "https")
	transport.Protocols.SetUnencryptedHTTP2(server.Scheme == "http")
	if s.serverCA != "" {
		pem, err := os.ReadFile(s.serverCA)
		if err != nil {
			return nil, err
		}
		authorities := x509.NewCertPool()
		if !authorities.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--server-ca %s: no certificate in it", s.serverCA)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12}
	}
	return &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(server) },
		Transport:     transport,
		FlushInterval: -1, // Each message of a stream goes out as it comes.
		ErrorHandler:  unavailable,
	}, nil
}

// unavailable answers a call that did not reach the server as gRPC does.
func unavailable(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		slog.Warn("the server is not reached", "error", err)
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Grpc-Status", "14")
	w.Header().Set("Grpc-Message", "the server is not reached")
	w.WriteHeader(http.StatusOK)
}
