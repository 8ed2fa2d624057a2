// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package recollect

import pb "github.com/recollect-ai/recollect/clients/go/recollectv1"

// Text returns the parts of a message or of an answer that is text alone.
func Text(text string) []*pb.ContentPart {
	return []*pb.ContentPart{{Kind: &pb.ContentPart_Text{Text: text}}}
}

// User returns a message of the user.
func User(text string) *pb.NewMessage {
	return &pb.NewMessage{Role: pb.Role_ROLE_USER, Parts: Text(text)}
}

// Assistant returns a message of the model.
func Assistant(text string) *pb.NewMessage {
	return &pb.NewMessage{Role: pb.Role_ROLE_ASSISTANT, Parts: Text(text)}
}

// System returns instructions of the application.
func System(text string) *pb.NewMessage {
	return &pb.NewMessage{Role: pb.Role_ROLE_SYSTEM, Parts: Text(text)}
}

// ToolResult returns a tool's answer to the call callID.
func ToolResult(callID, text string) *pb.NewMessage {
	result := &pb.ToolResult{CallId: callID, Text: text}
	return &pb.NewMessage{
		Role:  pb.Role_ROLE_TOOL,
		Parts: []*pb.ContentPart{{Kind: &pb.ContentPart_ToolResult{ToolResult: result}}},
	}
}

// Facts returns facts to remember, with defaults but for their texts.
func Facts(texts ...string) []*pb.NewFact {
	facts := make([]*pb.NewFact, len(texts))
	for i, text := range texts {
		facts[i] = &pb.NewFact{Text: text}
	}
	return facts
}

// TextOf returns the text of parts, joined.
func TextOf(parts []*pb.ContentPart) string {
	var text string
	for _, part := range parts {
		text += part.GetText()
	}
	return text
}
