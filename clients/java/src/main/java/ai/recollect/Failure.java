// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import static java.util.Map.entry;

import ai.recollect.RecollectException.FieldViolation;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RequestInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import java.io.Serializable;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Function;

/** What is known of a call that failed. */
record Failure(
    Status.Code code,
    String description,
    String reason,
    List<FieldViolation> fieldViolations,
    Duration retryAfter,
    Map<String, String> metadata,
    String callId)
    implements Serializable {

  static final String CURRENT_REVISION = "current_revision";

  private static final Metadata.Key<byte[]> DETAILS =
      Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);
  private static final Metadata.Key<String> CALL_ID =
      Metadata.Key.of("x-request-id", Metadata.ASCII_STRING_MARSHALLER);

  private static final Map<Status.Code, Function<Failure, RecollectException>> KINDS =
      Map.ofEntries(
          entry(Status.Code.INVALID_ARGUMENT, RecollectException.InvalidArgument::new),
          entry(Status.Code.NOT_FOUND, RecollectException.NotFound::new),
          entry(Status.Code.ALREADY_EXISTS, RecollectException.AlreadyExists::new),
          entry(Status.Code.ABORTED, Failure::aborted),
          entry(Status.Code.FAILED_PRECONDITION, RecollectException.FailedPrecondition::new),
          entry(Status.Code.OUT_OF_RANGE, RecollectException.OutOfRange::new),
          entry(Status.Code.UNAUTHENTICATED, RecollectException.Unauthenticated::new),
          entry(Status.Code.PERMISSION_DENIED, RecollectException.PermissionDenied::new),
          entry(Status.Code.RESOURCE_EXHAUSTED, RecollectException.ResourceExhausted::new),
          entry(Status.Code.UNAVAILABLE, RecollectException.Unavailable::new),
          entry(Status.Code.DEADLINE_EXCEEDED, RecollectException.DeadlineExceeded::new),
          entry(Status.Code.CANCELLED, RecollectException.Cancelled::new),
          entry(Status.Code.UNIMPLEMENTED, RecollectException.Unimplemented::new),
          entry(Status.Code.INTERNAL, RecollectException.Internal::new));

  /** Returns the exception of a call that ended with a status; trailers may be null. */
  static RecollectException exception(Status status, Metadata trailers) {
    Failure failure = of(status, trailers == null ? new Metadata() : trailers);
    RecollectException made =
        KINDS.getOrDefault(failure.code, RecollectException::new).apply(failure);
    if (status.getCause() != null) {
      made.initCause(status.getCause());
    }
    return made;
  }

  String sentence() {
    return code + (reason.isEmpty() ? "" : " (" + reason + ")") + ": " + description;
  }

  private static Failure of(Status status, Metadata trailers) {
    String reason = "";
    List<FieldViolation> violations = new ArrayList<>();
    Duration retryAfter = null;
    Map<String, String> metadata = Map.of();
    String callId = trailers.get(CALL_ID);
    try {
      for (Any detail : details(status, trailers)) {
        if (detail.is(ErrorInfo.class)) {
          ErrorInfo info = detail.unpack(ErrorInfo.class);
          reason = info.getReason();
          metadata = Map.copyOf(info.getMetadataMap());
        } else if (detail.is(BadRequest.class)) {
          for (var bad : detail.unpack(BadRequest.class).getFieldViolationsList()) {
            violations.add(new FieldViolation(bad.getField(), bad.getDescription()));
          }
        } else if (detail.is(RetryInfo.class)) {
          var delay = detail.unpack(RetryInfo.class).getRetryDelay();
          retryAfter = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
        } else if (detail.is(RequestInfo.class)) {
          callId = detail.unpack(RequestInfo.class).getRequestId();
        }
      }
    } catch (InvalidProtocolBufferException e) {
      // What stands between client and server broke the details; the status still says what failed.
    }
    return new Failure(
        status.getCode(),
        status.getDescription() == null ? "" : status.getDescription(),
        reason,
        List.copyOf(violations),
        retryAfter,
        metadata,
        callId == null ? "" : callId);
  }

  private static List<Any> details(Status status, Metadata trailers)
      throws InvalidProtocolBufferException {
    byte[] found = trailers.get(DETAILS);
    if (found == null) {
      return List.of();
    }
    com.google.rpc.Status parsed = com.google.rpc.Status.parseFrom(found);
    return parsed.getCode() == status.getCode().value() ? parsed.getDetailsList() : List.of();
  }

  private static RecollectException aborted(Failure failure) {
    return failure.metadata.containsKey(CURRENT_REVISION)
        ? new RecollectException.RevisionMismatch(failure)
        : new RecollectException.Aborted(failure);
  }
}
