// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! The client against a peer that answers what a test asks for by the session's id.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use recollect_client::v1::{
    AppendMessagesRequest, AppendMessagesResponse, ChatEvent, ImportUserRequest,
    ImportUserResponse, NewMessage, StreamChatRequest, StreamChatResponse,
};
use recollect_client::{Builder, Client, Code, Stream};
use recollect_internal::stubs::admin_service_server::{AdminService, AdminServiceServer};
use recollect_internal::stubs::chat_service_server::{ChatService, ChatServiceServer};
use recollect_internal::stubs::memory_service_server::{MemoryService, MemoryServiceServer};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::codegen::BoxStream;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic::{Request, Response, Status, Streaming};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone)]
struct Peer {
    appends: Arc<Mutex<Vec<AppendMessagesRequest>>>,
    credentials: Arc<Mutex<Vec<String>>>,
    imported: Arc<Mutex<Vec<String>>>,
    /// How many calls began, and how many of them were ended by the client.
    begun: watch::Sender<usize>,
    dropped: watch::Sender<usize>,
}

/// Counts a call that the client ended.
struct Guard(watch::Sender<usize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count += 1);
    }
}

impl Peer {
    fn router(&self) -> Router {
        Server::builder()
            .add_service(MemoryServiceServer::new(self.clone()))
            .add_service(ChatServiceServer::new(self.clone()))
            .add_service(AdminServiceServer::new(self.clone()))
    }
}

#[tonic::async_trait]
impl MemoryService for Peer {
    async fn append_messages(
        &self,
        request: Request<AppendMessagesRequest>,
    ) -> Result<Response<AppendMessagesResponse>, Status> {
        if let Some(sent) = request.metadata().get("authorization") {
            self.credentials.lock().unwrap().push(sent.to_str().unwrap().to_owned());
        }
        let request = request.into_inner();
        if request.session_id == "held" {
            let _guard = Guard(self.dropped.clone());
            self.begun.send_modify(|count| *count += 1);
            std::future::pending::<()>().await;
        }
        let mut appends = self.appends.lock().unwrap();
        appends.push(request.clone());
        if request.session_id == "flaky" && appends.len() < 3 {
            return Err(Status::unavailable("not now"));
        }
        Ok(Response::new(AppendMessagesResponse { session_revision: 7, ..Default::default() }))
    }
}

#[tonic::async_trait]
impl ChatService for Peer {
    async fn stream_chat(
        &self,
        _request: Request<StreamChatRequest>,
    ) -> Result<Response<BoxStream<StreamChatResponse>>, Status> {
        let guard = Guard(self.dropped.clone());
        Ok(Response::new(Box::pin(async_stream::stream! {
            let _guard = guard;
            for sequence in 1.. {
                let event = ChatEvent { sequence, ..Default::default() };
                yield Ok(StreamChatResponse { event: Some(event) });
                tokio::task::yield_now().await;
            }
        })))
    }
}

#[tonic::async_trait]
impl AdminService for Peer {
    async fn import_user(
        &self,
        request: Request<Streaming<ImportUserRequest>>,
    ) -> Result<Response<ImportUserResponse>, Status> {
        let mut uploads = request.into_inner();
        let mut records = 0;
        while let Some(upload) = uploads.message().await? {
            records += 1;
            self.imported.lock().unwrap().push(upload.record_json);
        }
        Ok(Response::new(ImportUserResponse { records }))
    }
}

fn peer() -> Peer {
    Peer {
        appends: Arc::default(),
        credentials: Arc::default(),
        imported: Arc::default(),
        begun: watch::Sender::new(0),
        dropped: watch::Sender::new(0),
    }
}

/// Serves a peer on a free port and returns it with the builder of a client of it.
async fn serve() -> (Peer, Builder) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let peer = peer();
    tokio::spawn(peer.router().serve_with_incoming(TcpListenerStream::new(listener)));
    (peer, Client::builder(address).user_id("ada"))
}

fn append(session_id: &str) -> AppendMessagesRequest {
    let messages = vec![NewMessage::user("x")];
    AppendMessagesRequest { session_id: session_id.into(), messages, ..Default::default() }
}

async fn reaches(count: &watch::Sender<usize>, least: usize) {
    let mut count = count.subscribe();
    let reached = tokio::time::timeout(PATIENCE, count.wait_for(|count| *count >= least)).await;
    assert!(reached.is_ok(), "it never came to {least}");
}

#[tokio::test]
async fn each_call_has_a_request_id_that_its_repeats_keep() {
    let (peer, builder) = serve().await;
    let memory = builder.build().unwrap().memory();
    for _ in 0..2 {
        memory.append_messages(append("flaky")).await.unwrap();
    }
    let appends = peer.appends.lock().unwrap();
    let ids: Vec<_> = appends.iter().map(|sent| sent.request_id.as_str()).collect();
    assert_eq!(ids.len(), 4);
    assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[2] != ids[3] && !ids[3].is_empty());
    assert!(appends.iter().all(|sent| sent.user_id == "ada"));
}

#[tokio::test]
async fn another_user_may_share_the_connection() {
    let (peer, builder) = serve().await;
    let client = builder.build().unwrap().with_user_id("bob");
    client.memory().append_messages(append("s")).await.unwrap();
    assert_eq!(peer.appends.lock().unwrap()[0].user_id, "bob");
}

#[tokio::test]
async fn calls_of_many_tasks_share_a_client() {
    let (peer, builder) = serve().await;
    let client = builder.build().unwrap();
    let tasks = (0..16).map(|_| {
        let memory = client.memory();
        tokio::spawn(async move { memory.append_messages(append("s")).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        assert_eq!(task.await.unwrap().unwrap().session_revision, 7);
    }
    assert_eq!(peer.appends.lock().unwrap().len(), 16);
}

#[tokio::test]
async fn the_token_source_is_asked_for_each_call() {
    let (peer, builder) = serve().await;
    let asked = AtomicUsize::new(0);
    let source = move || {
        let count = asked.fetch_add(1, Ordering::Relaxed) + 1;
        async move { Ok::<_, std::io::Error>("t".repeat(count)) }
    };
    let memory = builder.token_source(source).build().unwrap().memory();
    for _ in 0..2 {
        memory.append_messages(append("s")).await.unwrap();
    }
    assert_eq!(*peer.credentials.lock().unwrap(), ["Bearer t", "Bearer tt"]);
}

#[tokio::test]
async fn a_token_source_that_fails_fails_the_call() {
    let (peer, builder) = serve().await;
    let source = || async { Err::<String, _>("no token today") };
    let memory = builder.token_source(source).build().unwrap().memory();
    let error = memory.append_messages(append("s")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    assert!(error.message().contains("no token today"), "{error}");
    assert!(peer.appends.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_stream_that_is_dropped_ends_on_the_server() {
    let (peer, builder) = serve().await;
    let mut events = builder.build().unwrap().chat().stream(StreamChatRequest::default());
    for sequence in 1..=3 {
        assert_eq!(events.next().await.unwrap().unwrap().sequence, sequence);
    }
    assert_eq!(*peer.dropped.borrow(), 0);
    drop(events);
    reaches(&peer.dropped, 1).await;
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_on_the_server() {
    let (peer, builder) = serve().await;
    let memory = builder.build().unwrap().memory();
    let call = tokio::spawn(async move { memory.append_messages(append("held")).await });
    reaches(&peer.begun, 1).await;
    call.abort();
    reaches(&peer.dropped, 1).await;
}

#[tokio::test]
async fn a_bound_of_the_client_is_for_a_stream_as_a_whole() {
    let (_peer, builder) = serve().await;
    let client = builder.build().unwrap().with_timeout(Duration::from_millis(200));
    let error = client.chat().stream(StreamChatRequest::default()).into_vec().await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn an_import_ends_with_the_error_of_its_records() {
    let (peer, builder) = serve().await;
    let client = builder.build().unwrap();
    let records = vec!["{}".to_owned(), "{}".to_owned()];
    assert_eq!(client.admin().import_user("ada", records).await.unwrap(), 2);
    let nobody = client.with_timeout(Duration::ZERO).memory().append_messages(append("s")).await;
    let broken = nobody.unwrap_err();
    let records = Stream::new(tokio_stream::iter([Ok("{}".to_owned()), Err(broken)]));
    let error = client.admin().import_user("ada", records).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(peer.imported.lock().unwrap().len() <= 3);
}

#[tokio::test]
async fn a_socket_of_the_machine_is_an_address() {
    let folder = std::env::temp_dir().join(format!("recollect-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let peer = peer();
    tokio::spawn(peer.router().serve_with_incoming(UnixListenerStream::new(listener)));
    let address = format!("unix:{}", path.display());
    let client = Client::builder(address).user_id("ada").api_key("k").build().unwrap();
    client.memory().append_messages(append("s")).await.unwrap();
    assert_eq!(*peer.credentials.lock().unwrap(), ["Bearer k"]);
    std::fs::remove_dir_all(&folder).unwrap();
}
