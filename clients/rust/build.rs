// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! Makes the messages and stubs from the contract's descriptors, and what the layer has to know of
//! each request: which fields it fills in, and how pages are turned.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use prost::Message;
use prost_types::field_descriptor_proto::Label;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

const CONTRACT: &str = "contract.binpb";
const PACKAGE: &str = "recollect.v1";
const REASONS: &str = "ErrorReason";
const REASON_PREFIX: &str = "ERROR_REASON_";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={CONTRACT}");
    println!("cargo::rerun-if-changed=build.rs");
    let contract = FileDescriptorSet::decode(fs::read(CONTRACT)?.as_slice())?;
    let ours: Vec<_> = contract.file.iter().filter(|file| file.package() == PACKAGE).collect();
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("requests.rs"), requests(&ours)?)?;
    fs::write(Path::new(&out).join("reason.rs"), reasons(&ours)?)?;
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .compile_fds_with_config(contract, config)?;
    Ok(())
}

/// Returns the implementations of `Request` and `Paged`.
fn requests(files: &[&FileDescriptorProto]) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    let methods = files.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
    for method in methods {
        let request = message(files, method.input_type())?;
        let response = message(files, method.output_type())?;
        let name = request.name();
        writeln!(text, "impl crate::call::Request for crate::v1::{name} {{")?;
        for field in ["user_id", "request_id"] {
            if has(request, field) {
                writeln!(text, "fn {field}(&mut self) -> Option<&mut String> {{")?;
                writeln!(text, "Some(&mut self.{field})\n}}")?;
            }
        }
        writeln!(text, "}}")?;
        if has(response, "next_page_token") {
            let items = response
                .field
                .iter()
                .find(|field| field.label() == Label::Repeated)
                .ok_or_else(|| format!("{} lists nothing", response.name()))?;
            writeln!(text, "impl crate::call::Paged for crate::v1::{name} {{")?;
            writeln!(text, "type Response = crate::v1::{};", response.name())?;
            writeln!(text, "type Item = crate::v1::{};", local(items.type_name())?)?;
            writeln!(text, "fn turn_to(&mut self, token: String) {{ self.page_token = token; }}")?;
            writeln!(text, "fn open(page: Self::Response) -> (Vec<Self::Item>, String) {{")?;
            writeln!(text, "(page.{}, page.next_page_token)\n}}\n}}", items.name())?;
        }
    }
    Ok(text)
}

/// Returns the enum of the contract's reasons of errors, with their comments.
fn reasons(files: &[&FileDescriptorProto]) -> Result<String, Box<dyn Error>> {
    let (file, index) = files
        .iter()
        .find_map(|file| {
            let index = file.enum_type.iter().position(|found| found.name() == REASONS)?;
            Some((file, index))
        })
        .ok_or("the contract has no reasons")?;
    let mut variants = String::new();
    let mut known = String::new();
    let mut names = String::new();
    for (number, value) in file.enum_type[index].value.iter().enumerate() {
        let name = value.name().strip_prefix(REASON_PREFIX).ok_or("a reason without prefix")?;
        if name == "UNSPECIFIED" {
            continue;
        }
        // Where descriptors keep the comments of an enum's value: enum_type = 5, value = 2.
        let place = [5, i32::try_from(index)?, 2, i32::try_from(number)?];
        let variant = camel(name);
        for line in comment(file, &place).trim_end().lines() {
            writeln!(variants, "///{line}")?;
        }
        writeln!(variants, "{variant},")?;
        writeln!(known, "{name:?} => Self::{variant},")?;
        writeln!(names, "Self::{variant} => {name:?},")?;
    }
    Ok(format!(
        "/// Why a call failed: the contract's `ErrorReason`.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason {{
            {variants}
            /// A reason that this version of the client does not know, by its name.
            Other(String),
        }}

        impl Reason {{
            /// Its name in the contract, without prefix, as in `SESSION_NOT_FOUND`.
            pub fn as_str(&self) -> &str {{
                match self {{ {names} Self::Other(name) => name, }}
            }}
        }}

        impl From<String> for Reason {{
            fn from(name: String) -> Self {{
                match name.as_str() {{ {known} _ => Self::Other(name), }}
            }}
        }}
        "
    ))
}

fn message<'a>(
    files: &[&'a FileDescriptorProto],
    full_name: &str,
) -> Result<&'a DescriptorProto, Box<dyn Error>> {
    let name = local(full_name)?;
    let found = files.iter().flat_map(|file| &file.message_type).find(|one| one.name() == name);
    Ok(found.ok_or_else(|| format!("{full_name} is not in the contract"))?)
}

fn local(full_name: &str) -> Result<&str, String> {
    let found = full_name.strip_prefix(&format!(".{PACKAGE}."));
    found.ok_or_else(|| format!("{full_name} is not of {PACKAGE}"))
}

fn has(message: &DescriptorProto, field: &str) -> bool {
    message.field.iter().any(|found| found.name() == field)
}

fn comment<'a>(file: &'a FileDescriptorProto, place: &[i32]) -> &'a str {
    let mut places = file.source_code_info.iter().flat_map(|info| &info.location);
    places.find(|found| found.path == place).map_or("", |found| found.leading_comments())
}

/// Returns a name like SESSION_NOT_FOUND as SessionNotFound.
fn camel(name: &str) -> String {
    let words = name.split('_').map(|word| word[..1].to_owned() + &word[1..].to_lowercase());
    words.collect()
}
