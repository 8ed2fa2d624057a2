// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! The server's side of the contract, for peers that tests of the client talk to.

/// The traits that a peer implements, and what serves them.
pub mod stubs {
    tonic::include_proto!("recollect.v1");
}
