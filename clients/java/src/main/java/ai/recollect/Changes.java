// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import ai.recollect.v1.MemoryServiceGrpc;
import ai.recollect.v1.WatchRequest;
import ai.recollect.v1.WatchResponse;
import io.grpc.CallOptions;
import java.util.Iterator;

/** The changes that a watch sees, which goes on by the last token when it finds no server. */
final class Changes implements RecollectStream.Source<WatchResponse> {
  private final Calls calls;
  private final WatchRequest.Builder request;

  Changes(Calls calls, WatchRequest request) {
    this.calls = calls;
    this.request = calls.prepared(request).toBuilder();
  }

  @Override
  public Iterator<WatchResponse> begin(CallOptions options) {
    return calls.begin(
        MemoryServiceGrpc.getWatchMethod(), options, request.build(), change -> change);
  }

  @Override
  public void seen(WatchResponse change) {
    request.setResumeToken(change.getResumeToken());
  }

  @Override
  public boolean goesOn(RecollectException failed, boolean begun, Retries retries) {
    return !request.getResumeToken().isEmpty() || !retries.exhausted();
  }
}
