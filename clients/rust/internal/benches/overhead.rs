// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! Compares the client with the stub given the same to send, in turns, so that both meet the same
//! load. The server answers at once, which a real one does not.

use std::error::Error;
use std::time::{Duration, Instant};

use recollect_client::v1::memory_service_client::MemoryServiceClient;
use recollect_client::v1::{AppendMessagesRequest, AppendMessagesResponse, NewMessage};
use recollect_client::{Client, DEFAULT_TIMEOUT};
use recollect_internal::stubs::memory_service_server::{MemoryService, MemoryServiceServer};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};
use uuid::Uuid;

const CALLS: usize = 20_000;
const MOST_RATIO: f64 = 1.10;

/// Answers an append with nothing.
struct Silent;

#[tonic::async_trait]
impl MemoryService for Silent {
    async fn append_messages(
        &self,
        _request: Request<AppendMessagesRequest>,
    ) -> Result<Response<AppendMessagesResponse>, Status> {
        Ok(Response::new(AppendMessagesResponse::default()))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let serving = Server::builder().add_service(MemoryServiceServer::new(Silent));
    tokio::spawn(serving.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))));
    let memory = Client::builder(&address).user_id("ada").build()?.memory();
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let stub = MemoryServiceClient::new(channel);
    let (mut by_client, mut by_stub) = (Vec::new(), Vec::new());
    for _ in 0..CALLS {
        let began = Instant::now();
        memory.append_messages(appended()).await?;
        by_client.push(began.elapsed());
        let began = Instant::now();
        let request =
            AppendMessagesRequest { user_id: "ada".into(), request_id: id(), ..appended() };
        let mut request = Request::new(request);
        request.set_timeout(DEFAULT_TIMEOUT);
        let mut stub = stub.clone();
        tokio::time::timeout(DEFAULT_TIMEOUT, stub.append_messages(request)).await??;
        by_stub.push(began.elapsed());
    }
    let (client, stub) = (median(by_client), median(by_stub));
    let ratio = client.as_secs_f64() / stub.as_secs_f64();
    println!("client {client:?}, stub {stub:?}, client/stub {ratio:.3}");
    if ratio > MOST_RATIO {
        return Err(format!("more than {MOST_RATIO}").into());
    }
    Ok(())
}

fn appended() -> AppendMessagesRequest {
    AppendMessagesRequest {
        session_id: "s".into(),
        messages: vec![NewMessage::user("hello there"), NewMessage::assistant("hello to you")],
        ..Default::default()
    }
}

fn id() -> String {
    Uuid::new_v4().to_string()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
