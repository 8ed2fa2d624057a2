// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! Makes the server's side of the stubs, whose messages are the client's.

use std::error::Error;
use std::fs;

use prost::Message;
use prost_types::FileDescriptorSet;

const CONTRACT: &str = "../contract.binpb";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={CONTRACT}");
    let contract = FileDescriptorSet::decode(fs::read(CONTRACT)?.as_slice())?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .generate_default_stubs(true)
        .extern_path(".recollect.v1", "::recollect_client::v1")
        .compile_fds(contract)?;
    Ok(())
}
