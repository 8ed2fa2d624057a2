// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! The yardstick: methods of `python -m recollect_server.bench.echo`, a bare gRPC server that
//! answers with bytes it was given before.

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use recollect_client::v1::{GetContextRequest, GetContextResponse};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::BoxError;

const KEEP: &str = "/recollect.bench.Echo/Keep";
const METHOD: &str = "GetContext";
const CALL: &str = "/recollect.bench.Echo/GetContext";

/// A method that answers with what it was given.
pub struct Echo(tonic::client::Grpc<Channel>);

impl Echo {
    pub async fn prepare(target: &str, answer: GetContextResponse) -> Result<Self, BoxError> {
        let channel = Endpoint::from_shared(format!("http://{target}"))?.connect().await?;
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await?;
        let kept = Request::new(kept(&answer.encode_to_vec()));
        grpc.unary(kept, KEEP.parse()?, Raw).await?;
        Ok(Self(grpc))
    }

    pub async fn call(
        &mut self,
        request: GetContextRequest,
    ) -> Result<GetContextResponse, BoxError> {
        self.0.ready().await?;
        let codec = ProstCodec::default();
        let response = self.0.unary(Request::new(request), CALL.parse()?, codec).await?;
        Ok(response.into_inner())
    }
}

/// Returns what Keep takes: name, answers and whether it streams, as msgpack.
fn kept(answer: &[u8]) -> Bytes {
    let mut text = vec![0x93, 0xa0 | METHOD.len() as u8];
    text.put_slice(METHOD.as_bytes());
    text.put_slice(&[0x91, 0xc6]); // One answer, of a length in four bytes.
    text.put_u32(answer.len() as u32);
    text.put_slice(answer);
    text.put_u8(0xc2); // False.
    text.into()
}

/// Bytes as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
