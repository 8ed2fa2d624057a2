// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

// Command chat is a small chat in the terminal that remembers: a line in, a reply streamed out.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"

	recollect "github.com/recollect-ai/recollect/clients/go"
	pb "github.com/recollect-ai/recollect/clients/go/recollectv1"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := chat(ctx); err != nil {
		log.Fatal(err)
	}
}

func chat(ctx context.Context) error {
	client, err := recollect.NewFromEnv(recollect.WithUserID("ada"))
	if err != nil {
		return err
	}
	defer client.Close()
	session, err := client.Memory.CreateSession(ctx, &pb.CreateSessionRequest{Title: "A chat"})
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	for fmt.Print("> "); lines.Scan(); fmt.Print("> ") {
		if lines.Text() == "" {
			continue
		}
		if err := say(ctx, client, session.GetSessionId(), lines.Text()); err != nil {
			return err
		}
	}
	fmt.Println()
	return lines.Err()
}

func say(ctx context.Context, client *recollect.Client, session, text string) error {
	for event, err := range client.Chat.Stream(ctx, &pb.StreamChatRequest{
		SessionId: session,
		Message:   recollect.User(text),
	}) {
		if err != nil {
			return err
		}
		fmt.Print(event.GetDelta().GetText())
		if turn := event.GetDone().GetTurn(); turn.GetCache().GetHit() {
			fmt.Print(" (from the cache)")
		}
	}
	fmt.Println()
	return nil
}
