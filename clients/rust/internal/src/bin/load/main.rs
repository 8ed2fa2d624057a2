// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! Load on a server by the Rust client: how many calls a second it answers, and how fast, where the
//! client is not what bounds them.
//!
//!     load --target HOST:PORT --method get_context --concurrency 16 --duration 10
//!
//! prints one JSON object: `rps` (calls a second; of stream_chat whole turns), `p50_ms`, `p99_ms`
//! (of a call, or of a turn), and of stream_chat `deltas_per_s`. Each caller has a user of its own.

mod echo;
mod workload;

use std::env;
use std::error::Error;
use std::time::{Duration, Instant};

use recollect_client::Client;
use serde_json::json;

use crate::workload::{Method, Workload};

type BoxError = Box<dyn Error + Send + Sync>;

const USAGE: &str = "load [--target HOST:PORT] [--concurrency 16] [--duration 10] \
    [--method get_context|append_messages|lookup_exact|stream_chat|echo]";
/// Seconds of calls that are not counted, before those that are.
const WARM_UP: Duration = Duration::from_millis(500);

struct Arguments {
    target: String,
    concurrency: usize,
    duration: Duration,
    method: Method,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let arguments = read(env::args().skip(1)).map_err(|error| format!("{error}\n{USAGE}"))?;
    let mut builder = Client::builder(&arguments.target);
    if let Ok(key) = env::var("RECOLLECT_API_KEY") {
        builder = builder.api_key(key);
    }
    let client = builder.build()?;
    let mut workloads = Vec::new();
    for number in 0..arguments.concurrency {
        let user = format!("load-{}-{number}", std::process::id());
        let client = client.with_user_id(user);
        workloads.push(Workload::prepare(&arguments.target, client, arguments.method).await?);
    }
    let began = Instant::now() + WARM_UP;
    let ends = began + arguments.duration;
    let callers: Vec<_> =
        workloads.into_iter().map(|workload| tokio::spawn(run(workload, began, ends))).collect();
    let mut times = Vec::new();
    let mut deltas = 0;
    for caller in callers {
        let done = caller.await??;
        times.extend(done.times);
        deltas += done.deltas;
    }
    times.sort_unstable();
    let seconds = arguments.duration.as_secs_f64();
    let mut found = json!({
        "method": arguments.method.name(),
        "concurrency": arguments.concurrency,
        "calls": times.len(),
        "rps": rounded(times.len() as f64 / seconds),
        "p50_ms": rounded(percentile(&times, 0.5)),
        "p99_ms": rounded(percentile(&times, 0.99)),
    });
    if arguments.method == Method::StreamChat {
        found["deltas_per_s"] = json!(rounded(deltas as f64 / seconds));
    }
    println!("{found}");
    Ok(())
}

/// What a caller did while it was counted.
struct Done {
    times: Vec<Duration>,
    deltas: usize,
}

/// Calls again and again; counts what ended between two moments.
async fn run(mut workload: Workload, began: Instant, ends: Instant) -> Result<Done, BoxError> {
    let mut done = Done { times: Vec::new(), deltas: 0 };
    loop {
        let start = Instant::now();
        let deltas = workload.call().await?;
        let end = Instant::now();
        if end >= ends {
            return Ok(done);
        }
        if end >= began {
            done.times.push(end - start);
            done.deltas += deltas;
        }
    }
}

fn read(mut given: impl Iterator<Item = String>) -> Result<Arguments, BoxError> {
    let mut arguments = Arguments {
        target: recollect_client::DEFAULT_ADDRESS.to_owned(),
        concurrency: 16,
        duration: Duration::from_secs(10),
        method: Method::GetContext,
    };
    while let Some(name) = given.next() {
        let value = given.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--target" => arguments.target = value,
            "--concurrency" => arguments.concurrency = value.parse()?,
            "--duration" => arguments.duration = Duration::try_from_secs_f64(value.parse()?)?,
            "--method" => arguments.method = value.parse()?,
            _ => return Err(format!("no such option: {name}").into()),
        }
    }
    Ok(arguments)
}

/// Returns a percentile of sorted times, in milliseconds; 0 of none.
fn percentile(sorted: &[Duration], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let place = (last as f64 * share).round() as usize;
    sorted.get(place).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
