// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import ai.recollect.v1.ErrorReason;
import io.grpc.Status;
import java.io.Serial;
import java.io.Serializable;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * A call failed. There is a subclass for each gRPC status that a program may want to catch; any
 * other status is of this class itself.
 */
public class RecollectException extends RuntimeException {
  @Serial private static final long serialVersionUID = 1;

  private final Failure failure;

  RecollectException(Failure failure) {
    super(failure.sentence());
    this.failure = failure;
  }

  /** Returns the gRPC status. */
  public Status.Code code() {
    return failure.code();
  }

  /**
   * Returns why the call failed: the name of an {@link ErrorReason} without its prefix, as in
   * {@code SESSION_NOT_FOUND}; empty if the error did not come from the server itself. A server
   * newer than this client may give others.
   */
  public String reason() {
    return failure.reason();
  }

  /** Returns whether the call failed for this reason. */
  public boolean is(ErrorReason reason) {
    return reason.name().equals("ERROR_REASON_" + failure.reason());
  }

  /** Returns one sentence for people. */
  public String description() {
    return failure.description();
  }

  /** Returns the bad fields of the request. */
  public List<FieldViolation> fieldViolations() {
    return failure.fieldViolations();
  }

  /** Returns after how long to try again, if the server said so. */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(failure.retryAfter());
  }

  /** Returns more about the reason. */
  public Map<String, String> metadata() {
    return failure.metadata();
  }

  /**
   * Returns what to look for in the server's log; empty if the server did not answer. It is not the
   * {@code request_id}: each try of a call has its own.
   */
  public String callId() {
    return failure.callId();
  }

  /**
   * A bad field of a request.
   *
   * @param field its path, as in {@code messages[0].role}
   * @param description what would be right
   */
  public record FieldViolation(String field, String description) implements Serializable {}

  /** A field of the request is wrong; see {@link #fieldViolations}. */
  public static final class InvalidArgument extends RecollectException {
    @Serial private static final long serialVersionUID = 1;

    InvalidArgument(Failure failure) {
      super(failure);
    }
  }

  /** What the request names does not exist for this user. */
  public static final class NotFound extends RecollectException {
    @Serial private static final long serialVersionUID = 1;

    NotFound(Failure failure) {
      super(failure);
    }
  }

  /** The chosen id is taken. */
  public static final class AlreadyExists extends RecollectException {
    @Serial private static final long serialVersionUID = 1;

    AlreadyExists(Failure failure) {
      super(failure);
    }
  }

  /** Another writer was first; the same call may succeed later. */
  public static class Aborted extends RecollectException {
    @Serial private static final long serialVersionUID = 1;

    Aborted(Failure failure) {
      super(failure);
    }
  }

  /** {@code expected_revision} or {@code expected_version} is not what is stored. */
  public static final class RevisionMismatch extends Aborted {
    @Serial private static final long serialVersionUID = 1;

    RevisionMismatch(Failure failure) {
      super(failure);
    }

    /** Returns the session's revision or the fact's version now. */
    public long currentRevision() {
      return Long.parseLong(metadata().get(Failure.CURRENT_REVISION));
    }
  }

  /** The system's state forbids the call. */
  public static final class FailedPrecondition extends RecollectException {
    @Serial private static final long serialVersionUID = 1;

    FailedPrecondition(Failure failure) {
      super(failure);
    }
  }

  /** A position lies before what is kept. */
  public static final class OutOfRange extends RecollectException {
    @Serial private static final long serialVersionUID = 1;

    OutOfRange(Failure failure) {
      super(failure);
    }
  }

  /** No credential, or one that is not valid. */
  public static final class Unauthenticated extends RecollectException {
    @Serial private static final long serialVersionUID = 1;

    Unauthenticated(Failure failure) {
      super(failure);
    }
  }

  /** The credential may not do this. */
  public static final class PermissionDenied extends RecollectException {
    @Serial private static final long serialVersionUID = 1;

    PermissionDenied(Failure failure) {
      super(failure);
    }
  }

  /** A quota or a size limit is reached. */
  public static final class ResourceExhausted extends RecollectException {
    @Serial private static final long serialVersionUID = 1;

    ResourceExhausted(Failure failure) {
      super(failure);
    }
  }

  /** The server, or a part that the call needs, cannot be reached. */
  public static final class Unavailable extends RecollectException {
    @Serial private static final long serialVersionUID = 1;

    Unavailable(Failure failure) {
      super(failure);
    }
  }

  /** The call took longer than its timeout. */
  public static final class DeadlineExceeded extends RecollectException {
    @Serial private static final long serialVersionUID = 1;

    DeadlineExceeded(Failure failure) {
      super(failure);
    }
  }

  /** The call was cancelled: by an interrupt, by closing its stream or the client, or there. */
  public static final class Cancelled extends RecollectException {
    @Serial private static final long serialVersionUID = 1;

    Cancelled(Failure failure) {
      super(failure);
    }
  }

  /** This server does not serve the method yet. */
  public static final class Unimplemented extends RecollectException {
    @Serial private static final long serialVersionUID = 1;

    Unimplemented(Failure failure) {
      super(failure);
    }
  }

  /** A defect of the server; report it with {@link #callId}. */
  public static final class Internal extends RecollectException {
    @Serial private static final long serialVersionUID = 1;

    Internal(Failure failure) {
      super(failure);
    }
  }
}
