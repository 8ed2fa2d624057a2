// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

// Command gateway lets browsers call a Recollect server: it takes gRPC-Web and Connect, and hands
// every call on as gRPC with the caller's own credential. It has none itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	drain         = 30 * time.Second
)

type settings struct {
	listen, readyFile string
	tlsCert, tlsKey   string
	server, serverCA  string
	insecure          bool
	origins           []string
}

func parse(args []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("gateway", flag.ContinueOnError)
	flags.StringVar(&s.listen, "listen", "127.0.0.1:8080", "`address` for browsers")
	flags.StringVar(&s.server, "server", "http://127.0.0.1:50051", "`URL` of the Recollect server, http or https")
	flags.StringVar(&s.serverCA, "server-ca", "", "PEM `file` of the authorities of the server's certificate; the system's if none")
	flags.StringVar(&s.tlsCert, "tls-cert", "", "PEM `file` of the gateway's certificate")
	flags.StringVar(&s.tlsKey, "tls-key", "", "PEM `file` of its key")
	flags.BoolVar(&s.insecure, "insecure", false, "serve any address, and reach any server, in plain text: the network is trusted")
	flags.StringVar(&s.readyFile, "ready-file", "", "`file` to write the address to, once it serves")
	flags.Func("allow-origin", "`origin` whose pages may call, as https://app.example.com; may be given again", func(origin string) error {
		s.origins = append(s.origins, origin)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if (s.tlsCert == "") != (s.tlsKey == "") {
		return s, errors.New("--tls-cert and --tls-key belong together")
	}
	if s.tlsCert == "" && !s.insecure && !local(s.listen) {
		return s, fmt.Errorf("--listen %s: others reach it, so it needs --tls-cert and --tls-key, or --insecure", s.listen)
	}
	return s, nil
}

// local says whether an address can be reached from this machine alone.
func local(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func serve(ctx context.Context, s settings) error {
	handler, err := newHandler(s)
	if err != nil {
		return err
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler:           handler,
		Protocols:         &protocols,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
	}
	listener, err := net.Listen("tcp", s.listen)
	if err != nil {
		return err
	}
	if s.readyFile != "" {
		if err := writeWhole(s.readyFile, listener.Addr().String()); err != nil {
			return err
		}
	}
	slog.Info("serving", "address", listener.Addr().String(), "server", s.server, "origins", s.origins)
	done := make(chan error, 1)
	go func() {
		if s.tlsCert != "" {
			done <- server.ServeTLS(listener, s.tlsCert, s.tlsKey)
		} else {
			done <- server.Serve(listener)
		}
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	// Calls get time to end; a watch has no end and is cut off.
	ending, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	if err := server.Shutdown(ending); err != nil {
		return server.Close()
	}
	return nil
}

// writeWhole makes the file appear with its content in it.
func writeWhole(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func main() {
	s, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}
