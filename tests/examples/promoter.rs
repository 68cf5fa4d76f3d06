//! Promote as a process of its own, on a real queue and a real bucket: `promoter SECONDS`.
//!
//! Takes up to ten messages of SLUICEGATE_PROMOTE_QUEUE_URL at a time, has promote handle them as an SQS event, removes those
//! that did not fail and leaves the others to their visibility time-out. Prints `{"took": 10}` before it handles messages and
//! promote's own summary line after it has answered them, so that whoever kills it can tell whether it had work in hand. Ends
//! when the queue was empty for SECONDS, and fails when the queue cannot be reached.

#![allow(clippy::print_stdout, reason = "its answer")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate_lake::aws::Clients;
use sluicegate_lake::{Ambient, Queue, System, Usage};
use sluicegate_promote::Promote;
use sluicegate_runtime::cost::Prices;
use sluicegate_runtime::{Summary, setting};
use sluicegate_tests::sqs_event;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let patience = std::env::args().nth(1).ok_or("usage: promoter SECONDS")?.parse()?;
    let clients = Clients::from_env().await;
    let queue = clients.queue(setting("SLUICEGATE_PROMOTE_QUEUE_URL")?);
    let lake = Arc::new(clients.bucket(setting("SLUICEGATE_LAKE_BUCKET")?));
    let promote = Promote::new(lake, Arc::new(System));
    let prices = Prices::built_in("us-east-1", "arm64")?;
    let mut idle: u64 = 0;
    while idle < patience {
        let messages = queue.receive(Duration::from_secs(1)).await?;
        if messages.is_empty() {
            idle += 1;
            continue;
        }
        idle = 0;
        println!("{}", json!({"took": messages.len()}));
        let bodies: Vec<String> = messages.iter().map(|message| message.body.clone()).collect();
        let mut summary = Summary::new("promote", "local");
        let began = System.now().as_millisecond();
        let answer = promote.handle(sqs_event(&bodies), &mut summary).await?;
        let failed = failures(&answer);
        for (place, message) in messages.iter().enumerate() {
            if !failed.contains(place.to_string().as_str()) {
                queue.delete(&message.receipt).await?;
            }
        }
        let now = System.now();
        let duration_ms = u64::try_from(now.as_millisecond() - began)?;
        let requests = clients.requests().take();
        let used = Usage { duration_ms, requests, ..Usage::default() };
        println!("{}", summary.line(now, &used, &prices));
    }
    Ok(())
}

/// The messages that come again, by their places in the batch.
fn failures(answer: &Value) -> BTreeSet<&str> {
    let failures = answer["batchItemFailures"].as_array().into_iter().flatten();
    failures.filter_map(|failure| failure["itemIdentifier"].as_str()).collect()
}
