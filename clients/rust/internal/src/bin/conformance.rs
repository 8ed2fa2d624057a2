// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! The Rust client's runner; tests/conformance/README.md has the protocol.

use std::collections::HashMap;
use std::error::Error;
use std::io::Write;
use std::time::Duration;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use recollect_client::{BuildError, Client, Error as CallError, Result as CallResult, Stream, v1};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::oneshot;

type BoxError = Box<dyn Error + Send + Sync>;

#[derive(Deserialize)]
struct Step {
    id: u64,
    #[serde(rename = "do")]
    what: String,
    #[serde(default)]
    client: String,
    #[serde(default)]
    options: Options,
    #[serde(default)]
    method: String,
    #[serde(default)]
    request: Value,
    timeout: Option<f64>,
    take: Option<usize>,
    call: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Options {
    address: String,
    user_id: Option<String>,
    api_key: Option<String>,
    tls: bool,
    tls_roots: Option<String>,
    timeout: Option<f64>,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let contract = include_bytes!("../../../contract.binpb");
    let pool = DescriptorPool::decode(contract.as_slice())?;
    let mut clients: HashMap<String, Client> = HashMap::new();
    let mut cancels: HashMap<u64, oneshot::Sender<()>> = HashMap::new();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let step: Step = serde_json::from_str(&line)?;
        match step.what.as_str() {
            "open" => match open(step.options) {
                Ok(client) => {
                    clients.insert(step.client, client);
                    say(step.id, "value", Value::Null);
                }
                Err(error) => say(step.id, "error", refused(&error.to_string())),
            },
            "close" => {
                clients.remove(&step.client);
                say(step.id, "value", Value::Null);
            }
            "cancel" => {
                // A call that has ended is not there to be cancelled.
                let _ = step.call.and_then(|call| cancels.remove(&call)).map(|end| end.send(()));
                say(step.id, "value", Value::Null);
            }
            "call" => {
                let (cancel, cancelled) = oneshot::channel();
                cancels.insert(step.id, cancel);
                let mut client = clients[&step.client].clone();
                if let Some(timeout) = step.timeout {
                    client = client.with_timeout(Duration::from_secs_f64(timeout));
                }
                let call = Call { step, client, pool: pool.clone() };
                tokio::spawn(call.run(cancelled));
            }
            other => return Err(format!("no such step: {other}").into()),
        }
    }
    Ok(())
}

fn open(options: Options) -> Result<Client, BuildError> {
    let mut builder = Client::builder(options.address);
    if let Some(user_id) = options.user_id {
        builder = builder.user_id(user_id);
    }
    if let Some(key) = options.api_key {
        builder = builder.api_key(key);
    }
    if let Some(timeout) = options.timeout {
        builder = builder.timeout(Duration::from_secs_f64(timeout));
    }
    match options.tls_roots {
        Some(path) => builder = builder.tls_roots(std::fs::read(path).expect("the roots")),
        None if options.tls => builder = builder.tls(),
        None => {}
    }
    builder.build()
}

/// How a call ended: the kind of answer, and what it holds.
type End = (&'static str, Value);

struct Call {
    step: Step,
    client: Client,
    pool: DescriptorPool,
}

impl Call {
    async fn run(self, cancelled: oneshot::Receiver<()>) {
        let id = self.step.id;
        let cancelled = async {
            if cancelled.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        // Dropping the call is how Rust cancels, and nobody is left to be given an error.
        let (kind, what) = tokio::select! {
            end = self.end() => end.unwrap_or_else(|error| ("error", refused(&error.to_string()))),
            () = cancelled => ("error", json!({"code": "CANCELLED"})),
        };
        say(id, kind, what);
    }

    async fn end(&self) -> Result<End, BoxError> {
        let (memory, cache) = (self.client.memory(), self.client.cache());
        let (chat, admin) = (self.client.chat(), self.client.admin());
        Ok(match self.step.method.as_str() {
            "MemoryService/CreateSession" => self.value(memory.create_session(self.ask()?).await),
            "MemoryService/GetSession" => self.value(memory.get_session(self.ask()?).await),
            "MemoryService/ListSessions" => self.items(memory.list_sessions(self.ask()?)).await,
            "MemoryService/UpdateSession" => self.value(memory.update_session(self.ask()?).await),
            "MemoryService/ClearSession" => self.value(memory.clear_session(self.ask()?).await),
            "MemoryService/DeleteSession" => plain(memory.delete_session(self.ask()?).await),
            "MemoryService/AppendMessages" => {
                self.result(memory.append_messages(self.ask()?).await)
            }
            "MemoryService/ListMessages" => self.items(memory.list_messages(self.ask()?)).await,
            "MemoryService/GetContext" => self.result(memory.get_context(self.ask()?).await),
            "MemoryService/Remember" => self.result(memory.remember(self.ask()?).await),
            "MemoryService/Recall" => self.result(memory.recall(self.ask()?).await),
            "MemoryService/GetFact" => self.value(memory.get_fact(self.ask()?).await),
            "MemoryService/ListFacts" => self.items(memory.list_facts(self.ask()?)).await,
            "MemoryService/UpdateFact" => self.value(memory.update_fact(self.ask()?).await),
            "MemoryService/ForgetFact" => plain(memory.forget_fact(self.ask()?).await),
            "MemoryService/GetFactHistory" => {
                self.values(memory.get_fact_history(self.ask()?).await)
            }
            "MemoryService/ExtractFacts" => self.result(memory.extract_facts(self.ask()?).await),
            "MemoryService/CompactSession" => self.value(memory.compact_session(self.ask()?).await),
            "MemoryService/ListEpisodes" => self.items(memory.list_episodes(self.ask()?)).await,
            "MemoryService/GetEpisode" => self.value(memory.get_episode(self.ask()?).await),
            "MemoryService/Watch" => self.items(memory.watch(self.ask()?)).await,
            "CacheService/Lookup" => self.result(cache.lookup(self.ask()?).await),
            "CacheService/BatchLookup" => self.values(cache.batch_lookup(self.ask()?).await),
            "CacheService/Store" => self.value(cache.store(self.ask()?).await),
            "CacheService/Invalidate" => plain(cache.invalidate(self.ask()?).await),
            "CacheService/ReportFeedback" => plain(cache.report_feedback(self.ask()?).await),
            "CacheService/GetStats" => self.result(cache.get_stats(self.ask()?).await),
            "CacheService/ListEntries" => self.items(cache.list_entries(self.ask()?)).await,
            "CacheService/GetEntry" => self.value(cache.get_entry(self.ask()?).await),
            "ChatService/Chat" => self.value(chat.send(self.ask()?).await),
            "ChatService/StreamChat" => self.items(chat.stream(self.ask()?)).await,
            "ChatService/ResumeChat" => self.items(chat.resume(self.ask()?)).await,
            "ChatService/GetTurn" => self.value(chat.get_turn(self.ask()?).await),
            "ChatService/CancelTurn" => self.value(chat.cancel_turn(self.ask()?).await),
            "AdminService/EraseUser" => self.result(admin.erase_user(self.ask()?).await),
            "AdminService/ExportUser" => {
                self.yielded(admin.export_user(self.ask()?), |record| json!(record)).await
            }
            "AdminService/ImportUser" => {
                let uploads = self.step.request.as_array().ok_or("not a list")?.clone();
                let uploads: Vec<_> = uploads
                    .into_iter()
                    .map(|upload| self.message::<v1::ImportUserRequest>(upload))
                    .collect::<Result<_, _>>()?;
                let user_id = uploads[0].user_id.clone();
                let records: Vec<_> = uploads.into_iter().map(|one| one.record_json).collect();
                plain(admin.import_user(user_id, records).await)
            }
            "AdminService/ListAuditEvents" => {
                self.items(admin.list_audit_events(self.ask()?)).await
            }
            "AdminService/CreateApiKey" => self.result(admin.create_api_key(self.ask()?).await),
            "AdminService/ListApiKeys" => self.items(admin.list_api_keys(self.ask()?)).await,
            "AdminService/RevokeApiKey" => self.value(admin.revoke_api_key(self.ask()?).await),
            "AdminService/Reindex" => plain(admin.reindex(self.ask()?).await),
            "AdminService/ListJobs" => self.items(admin.list_jobs(self.ask()?)).await,
            "AdminService/RetryJob" => self.value(admin.retry_job(self.ask()?).await),
            "AdminService/GetServerInfo" => self.result(admin.get_server_info(self.ask()?).await),
            "AdminService/GetUsage" => self.values(admin.get_usage(self.ask()?).await),
            other => return Err(format!("no such method: {other}").into()),
        })
    }

    /// Returns the step's request.
    fn ask<T: Message + Name + Default>(&self) -> Result<T, BoxError> {
        self.message(self.step.request.clone())
    }

    fn message<T: Message + Name + Default>(&self, value: Value) -> Result<T, BoxError> {
        let kind = self.pool.get_message_by_name(&T::full_name()).ok_or("not in the contract")?;
        let value = if value.is_null() { json!({}) } else { value };
        Ok(DynamicMessage::deserialize(kind, value)?.transcode_to()?)
    }

    /// Returns a message as proto JSON with the contract's names of fields.
    fn json<T: Message + Name>(&self, message: &T) -> Value {
        let kind = self.pool.get_message_by_name(&T::full_name()).expect("the contract has it");
        let mut dynamic = DynamicMessage::new(kind);
        dynamic.transcode_from(message).expect("the same message");
        let options = SerializeOptions::new().use_proto_field_name(true);
        dynamic.serialize_with_options(serde_json::value::Serializer, &options).expect("JSON")
    }

    fn result<T: Message + Name>(&self, done: CallResult<T>) -> End {
        ended(done, |message| ("result", self.json(&message)))
    }

    fn value<T: Message + Name>(&self, done: CallResult<T>) -> End {
        ended(done, |message| ("value", self.json(&message)))
    }

    fn values<T: Message + Name>(&self, done: CallResult<Vec<T>>) -> End {
        ended(done, |all| ("value", all.iter().map(|message| self.json(message)).collect()))
    }

    async fn items<T: Message + Name>(&self, stream: Stream<T>) -> End {
        self.yielded(stream, |message| self.json(&message)).await
    }

    /// Says what a stream yields, as long as the step takes it.
    async fn yielded<T>(&self, mut stream: Stream<T>, plain: impl Fn(T) -> Value) -> End {
        let mut left = self.step.take.unwrap_or(usize::MAX);
        while left > 0 {
            match stream.next().await {
                Some(Ok(item)) => say(self.step.id, "item", plain(item)),
                Some(Err(error)) => return failed(&error),
                None => break,
            }
            left -= 1;
        }
        ("value", Value::Null)
    }
}

fn plain<T: serde::Serialize>(done: CallResult<T>) -> End {
    ended(done, |value| ("value", json!(value)))
}

fn ended<T>(done: CallResult<T>, succeeded: impl FnOnce(T) -> End) -> End {
    done.map_or_else(|error| failed(&error), succeeded)
}

fn failed(error: &CallError) -> End {
    let violations = error.field_violations().iter();
    let violations: Vec<_> =
        violations.map(|bad| json!({"field": bad.field, "description": bad.description})).collect();
    let end = json!({
        "code": specified(&format!("{:?}", error.code())),
        "reason": error.reason().map_or("", |reason| reason.as_str()),
        "message": error.message(),
        "field_violations": violations,
        "retry_after": error.retry_after().map(|pause| pause.as_secs_f64()),
        "metadata": error.metadata(),
        "call_id": error.call_id(),
    });
    ("error", end)
}

fn refused(message: &str) -> Value {
    json!({"code": "CLIENT", "message": message})
}

/// Returns a status's name in the specification of gRPC, as in `NOT_FOUND` for `NotFound`.
fn specified(name: &str) -> String {
    let mut found = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !found.is_empty() {
            found.push('_');
        }
        found.extend(letter.to_uppercase());
    }
    found
}

fn say(id: u64, kind: &str, what: Value) {
    let mut out = std::io::stdout().lock();
    let line = json!({"id": id, kind: what});
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("someone listens");
}
