// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

// The messages, enums and services of the contract `recollect.v1`, and the details of errors.

export * from "./gen/google/rpc/error_details_pb.js";
export * from "./gen/recollect/v1/admin_pb.js";
export * from "./gen/recollect/v1/cache_pb.js";
export * from "./gen/recollect/v1/chat_pb.js";
export * from "./gen/recollect/v1/common_pb.js";
export * from "./gen/recollect/v1/memory_pb.js";
