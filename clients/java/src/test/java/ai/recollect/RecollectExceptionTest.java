// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.recollect.RecollectException.FieldViolation;
import ai.recollect.v1.ErrorReason;
import com.google.protobuf.Any;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RequestInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class RecollectExceptionTest {
  private static RecollectException failed(Status.Code code, Message... details) {
    var status = com.google.rpc.Status.newBuilder().setCode(code.value()).setMessage("said");
    for (Message detail : details) {
      status.addDetails(Any.pack(detail));
    }
    StatusRuntimeException thrown = StatusProto.toStatusRuntimeException(status.build());
    return Failure.exception(thrown.getStatus(), thrown.getTrailers());
  }

  private static ErrorInfo reason(String reason) {
    return ErrorInfo.newBuilder().setReason(reason).setDomain("recollect").build();
  }

  @Test
  void anErrorHasWhatTheServerSaid() {
    var bad = BadRequest.FieldViolation.newBuilder().setField("f").setDescription("less");
    var error =
        failed(
            Status.Code.INVALID_ARGUMENT,
            reason("INVALID_FIELD").toBuilder().putMetadata("k", "v").build(),
            BadRequest.newBuilder().addFieldViolations(bad).build(),
            RetryInfo.newBuilder()
                .setRetryDelay(com.google.protobuf.Duration.newBuilder().setNanos(500_000_000))
                .build(),
            RequestInfo.newBuilder().setRequestId("r").build());
    assertInstanceOf(RecollectException.InvalidArgument.class, error);
    assertEquals(Status.Code.INVALID_ARGUMENT, error.code());
    assertEquals("said", error.description());
    assertEquals("INVALID_ARGUMENT (INVALID_FIELD): said", error.getMessage());
    assertTrue(error.is(ErrorReason.ERROR_REASON_INVALID_FIELD));
    assertFalse(error.is(ErrorReason.ERROR_REASON_INTERNAL));
    assertEquals(Map.of("k", "v"), error.metadata());
    assertEquals(List.of(new FieldViolation("f", "less")), error.fieldViolations());
    assertEquals(Optional.of(Duration.ofMillis(500)), error.retryAfter());
    assertEquals("r", error.callId());
  }

  @Test
  void aReasonOrStatusThatIsNotKnownIsKept() {
    var error = failed(Status.Code.DATA_LOSS, reason("FROM_THE_FUTURE"));
    assertEquals(RecollectException.class, error.getClass());
    assertEquals(Status.Code.DATA_LOSS, error.code());
    assertEquals("FROM_THE_FUTURE", error.reason());
    for (ErrorReason reason : ErrorReason.values()) {
      assertFalse(error.is(reason));
    }
  }

  @Test
  void aRevisionMismatchSaysWhereTheSessionIs() {
    var mismatch =
        failed(
            Status.Code.ABORTED,
            reason("REVISION_MISMATCH").toBuilder().putMetadata("current_revision", "7").build());
    assertEquals(
        7, assertInstanceOf(RecollectException.RevisionMismatch.class, mismatch).currentRevision());
    assertEquals(
        RecollectException.Aborted.class,
        failed(Status.Code.ABORTED, reason("TURN_IN_PROGRESS")).getClass());
  }

  @Test
  void detailsThatCannotBeReadHideNoStatus() {
    var trailers = new Metadata();
    trailers.put(
        Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER),
        new byte[] {(byte) 0xff});
    var error = Failure.exception(Status.NOT_FOUND.withDescription("gone"), trailers);
    assertInstanceOf(RecollectException.NotFound.class, error);
    assertEquals("NOT_FOUND: gone", error.getMessage());
    assertEquals("", error.reason());
  }

  @Test
  void anErrorCanBeSerialized() throws IOException, ClassNotFoundException {
    var bytes = new ByteArrayOutputStream();
    try (var out = new ObjectOutputStream(bytes)) {
      out.writeObject(failed(Status.Code.NOT_FOUND, reason("SESSION_NOT_FOUND")));
    }
    try (var in = new ObjectInputStream(new ByteArrayInputStream(bytes.toByteArray()))) {
      var read = assertInstanceOf(RecollectException.NotFound.class, in.readObject());
      assertTrue(read.is(ErrorReason.ERROR_REASON_SESSION_NOT_FOUND));
    }
  }
}
