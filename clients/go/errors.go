// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package recollect

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Error is what every failed call returns; find it with errors.As. It also is context.Canceled or
// context.DeadlineExceeded, for errors.Is, when the call ended so.
type Error struct {
	Code            codes.Code        // The gRPC status.
	Reason          Reason            // Why; "" if the error did not come from the server itself.
	Message         string            // One sentence for people.
	FieldViolations []FieldViolation  // The bad fields.
	RetryAfter      time.Duration     // When to try again; 0 if the server did not say.
	Metadata        map[string]string // More about the reason.
	CallID          string            // What to look for in the server's log; not the request_id.

	status *status.Status
}

// FieldViolation is a bad field of a request.
type FieldViolation struct {
	Field       string // Its path, as in `messages[0].role`.
	Description string // What would be right.
}

// Error says the code, the reason and the message.
func (e *Error) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("recollect: %s: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("recollect: %s (%s): %s", e.Code, e.Reason, e.Message)
}

// GRPCStatus returns the status, for the functions of gRPC's package status.
func (e *Error) GRPCStatus() *status.Status { return e.status }

// Unwrap returns the context's error that the code means, if any.
func (e *Error) Unwrap() error {
	switch e.Code {
	case codes.Canceled:
		return context.Canceled
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// CurrentRevision returns the session's revision or the fact's version now, of an error with
// [ReasonRevisionMismatch].
func (e *Error) CurrentRevision() (revision int64, ok bool) {
	revision, err := strconv.ParseInt(e.Metadata["current_revision"], 10, 64)
	return revision, err == nil
}

// ReasonOf returns the reason of a failed call's error, or "".
func ReasonOf(err error) Reason {
	var failed *Error
	if errors.As(err, &failed) {
		return failed.Reason
	}
	return ""
}

// fromRPC turns gRPC's error into an *Error.
func fromRPC(err error) error {
	if err == nil {
		return nil
	}
	return asError(err)
}

func asError(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	found := status.Convert(err)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		found = status.FromContextError(err)
	}
	failed := &Error{Code: found.Code(), Message: found.Message(), status: found}
	for _, detail := range found.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			failed.Reason = Reason(detail.GetReason())
			failed.Metadata = detail.GetMetadata()
		case *errdetails.BadRequest:
			for _, v := range detail.GetFieldViolations() {
				bad := FieldViolation{Field: v.GetField(), Description: v.GetDescription()}
				failed.FieldViolations = append(failed.FieldViolations, bad)
			}
		case *errdetails.RetryInfo:
			failed.RetryAfter = detail.GetRetryDelay().AsDuration()
		case *errdetails.RequestInfo:
			failed.CallID = detail.GetRequestId()
		}
	}
	return failed
}
