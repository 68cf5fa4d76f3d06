//! The tables of docs/costs.md: `make costs`.
//!
//! Files of three sizes go through land, stage and promote in this process. Requests, messages and bytes are those that the
//! store and the queues counted; time cannot be counted here, so it is made of the assumptions below, each of which has its
//! source in docs/costs.md. Prices are those of infra/prices.json.

#![allow(clippy::print_stdout, reason = "its answer")]

use serde_json::{Value, json};
use sluicegate_lake::{Cost, Usage};
use sluicegate_runtime::Summary;
use sluicegate_runtime::cost::{FALLBACK, LOG_BYTES, Prices};
use sluicegate_tests::{World, s3_event, sqs_event};

type Failure = Box<dyn std::error::Error>;

const PRICES: &str = include_str!("../../infra/prices.json");
const DATASET: &str = "readings";
const ARCHITECTURE: &str = "aarch64";

/// Memory of the functions in template.yaml, in MB.
const LAND_MB: u64 = 256;
const STAGE_MB: u64 = 1769;
const PROMOTE_MB: u64 = 512;

/// CPU of stage at one whole processor: by the byte, and what a file takes beside.
const STAGE_NS_A_BYTE: f64 = 6.57e9 / 766e6;
const STAGE_MS_A_FILE: f64 = 3.2;
/// CPU of a commit.
const PROMOTE_MS: f64 = 5.0;
/// What one request waits for its answer, and how fast bytes flow in one.
const WAIT_MS: f64 = 30.0;
const BYTES_A_MS: f64 = 85e3;
/// Requests of a commit that wait for one another; all others go side by side.
const PROMOTE_ROUNDS: u32 = 11;

/// How files of one size arrive.
struct Case {
    name: &'static str,
    size: usize,
    /// Files that share an invocation of stage and a commit.
    together: usize,
}

const CASES: [Case; 3] = [
    Case { name: "20 KB", size: 20_000, together: 10 },
    Case { name: "1 MB", size: 1_000_000, together: 10 },
    Case { name: "100 MB", size: 100_000_000, together: 1 },
];

/// What a group of files used and cost, by function.
struct Group {
    files: f64,
    bytes: f64,
    used: [(&'static str, Usage); 4],
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let prices = Prices::built_in(FALLBACK, ARCHITECTURE)?;
    let mut groups = Vec::new();
    for case in &CASES {
        groups.push(measure(case).await?);
    }
    requests_table(&groups);
    dollars_table(&groups, &prices);
    elsewhere_table(&groups, &prices)
}

/// One group after another has made the table: a commit's requests do not depend on its size.
async fn measure(case: &Case) -> Result<Group, Failure> {
    let world = World::default();
    let contract = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["at", "sensor", "value"],
        "properties": {"at": {"type": "string", "format": "date-time"}, "sensor": {"type": "string"}, "value": {"type": "number"}},
        "x-sluicegate": {"version": "1.0.0", "team": {"name": "t"}, "format": {"type": "csv"}, "event_time": {"column": "at"},
                         "lateness": {"allowed": "P9D"}},
    });
    world.upload(&format!("_contracts/{DATASET}.json"), contract.to_string()).await;
    world.upload(&format!("{DATASET}/first.csv"), file(0, 1000)).await;
    if !world.settle().await.is_empty() {
        return Err("the first file was not published".into());
    }
    let mut used =
        [("land", Usage::default()), ("stage", Usage::default()), ("promote", Usage::default())];
    let [(_, land), (_, stage), (_, promote)] = &mut used;
    for n in 1..=case.together {
        world.wait(1);
        let key = format!("{DATASET}/{n}.csv");
        let event = s3_event(&key, &world.inbox.upload(&key, file(n, case.size)));
        let before = world.cloud.requests().so_far();
        world.land.handle(event, &mut Summary::new("land", "r")).await?;
        let counted = world.cloud.requests().so_far().since(&before);
        let ms = waits(&counted) + case.size as f64 / BYTES_A_MS;
        *land = land.plus(&invocation(counted, ms, LAND_MB));
    }
    let mut polls = Usage::default();
    let (counted, written) = deliver(&world, "stage", &mut polls).await?;
    let (read, files) = ((case.size * case.together) as f64, case.together as f64);
    // Bytes flow in while they are worked on, and out once a file is complete.
    let cpu = STAGE_NS_A_BYTE * read / 1e6;
    let work = cpu.max(read / BYTES_A_MS) + STAGE_MS_A_FILE * files + written / BYTES_A_MS;
    let ms = waits(&counted) + work;
    *stage = invocation(counted, ms, STAGE_MB);
    let (counted, _) = deliver(&world, "promote", &mut polls).await?;
    *promote = invocation(counted, f64::from(PROMOTE_ROUNDS) * WAIT_MS + PROMOTE_MS, PROMOTE_MB);
    let [land, stage, promote] = used;
    let used = [land, stage, promote, ("Lambda's polling", polls)];
    Ok(Group { files, bytes: read, used })
}

/// Delivers what waits as one batch, as Lambda does: one request to receive, one to delete. Answers with what the function
/// asked for and how many bytes of data it wrote.
async fn deliver(world: &World, queue: &str, polls: &mut Usage) -> Result<(Usage, f64), Failure> {
    let bodies = world.queue(queue).drain();
    let bytes: usize = bodies.iter().map(String::len).sum();
    polls.request("sqs", "ReceiveMessage", bytes.div_ceil(64 * 1024).max(1) as u64);
    polls.request("sqs", "DeleteMessageBatch", bodies.len().div_ceil(10) as u64);
    let before = world.cloud.requests().so_far();
    let mut summary = Summary::new("", "r");
    let answer = match queue {
        "promote" => world.promote.handle(sqs_event(&bodies), &mut summary).await?,
        _ => world.stage.handle(sqs_event(&bodies), &mut summary).await?,
    };
    if answer != json!({"batchItemFailures": []}) {
        return Err(format!("{queue} failed").into());
    }
    let counted = world.cloud.requests().so_far().since(&before);
    Ok((counted, summary.outcomes.bytes_written as f64))
}

/// Rows of one day, about so many bytes.
fn file(n: usize, size: usize) -> Vec<u8> {
    let mut text = String::from("at,sensor,value\n");
    let mut row = 0u64;
    while text.len() < size {
        row += 1;
        let (minute, second) = (row / 60 % 60, row % 60);
        let value = (row * 7919 + n as u64) % 10_007;
        text +=
            &format!("2013-01-01T12:{minute:02}:{second:02}Z,sensor-{:03},{value}.5\n", row % 700);
    }
    text.into_bytes()
}

/// Milliseconds for answers, one request after the other.
fn waits(counted: &Usage) -> f64 {
    counted.requests.values().sum::<u64>() as f64 * WAIT_MS
}

fn invocation(counted: Usage, ms: f64, memory_mb: u64) -> Usage {
    let duration_ms = std::time::Duration::from_secs_f64(ms / 1000.0).as_micros().div_ceil(1000);
    let duration_ms = u64::try_from(duration_ms).unwrap_or(u64::MAX);
    let mb_ms = duration_ms * memory_mb;
    Usage { duration_ms, mb_ms, invocations: 1, log_bytes: LOG_BYTES, ..counted }
}

// -------------------------------------------------------------------------------------------------------------- the tables

fn requests_table(groups: &[Group]) {
    println!(
        "| a file of | function | invocations | GET, HEAD | PUT, COPY, LIST | SQS | billed ms × MB |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|");
    for (case, group) in CASES.iter().zip(groups) {
        for (function, used) in &group.used {
            let count = |kinds: &[&str]| -> f64 {
                let of = |kind: &&str| used.requests.get(*kind).copied().unwrap_or_default();
                kinds.iter().map(of).sum::<u64>() as f64 / group.files
            };
            let sqs: u64 =
                used.requests.iter().filter(|(k, _)| k.starts_with("sqs")).map(|(_, n)| *n).sum();
            println!(
                "| {} | {function} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} |",
                case.name,
                used.invocations as f64 / group.files,
                count(&["s3:GetObject", "s3:HeadObject"]),
                count(&["s3:PutObject", "s3:CopyObject", "s3:ListObjectsV2"]),
                sqs as f64 / group.files,
                used.mb_ms as f64 / group.files,
            );
        }
    }
    println!();
}

fn dollars_table(groups: &[Group], prices: &Prices) {
    print!("| dollars for a million files of |");
    CASES.iter().for_each(|case| print!(" {} |", case.name));
    println!("\n|---|---:|---:|---:|");
    let functions = groups.first().map(|g| g.used.each_ref().map(|(name, _)| *name));
    for (n, function) in functions.into_iter().flatten().enumerate() {
        let of = |group: &Group| group.used.get(n).map(|(_, used)| prices.cost(used));
        for (part, label) in
            Cost::default().parts().iter().enumerate().map(|(i, (name, _))| (i, *name))
        {
            let nano = |group: &Group| {
                of(group).and_then(|cost| cost.parts().get(part).map(|p| p.1)).unwrap_or_default()
            };
            if groups.iter().any(|group| nano(group) > 0) {
                let each = groups.iter().map(|g| format!(" {:.2} |", per_million(g, nano(g))));
                println!("| {function}, {label} |{}", each.collect::<String>());
            }
        }
    }
    let row = |label: &str, of: &dyn Fn(&Group) -> f64| {
        let each = groups.iter().map(|group| format!(" **{:.2}** |", of(group)));
        println!("| **{label}** |{}", each.collect::<String>());
    };
    row("together", &|group| per_million(group, total(group, prices)));
    row("the same by the TB", &|group| per_tb(group, prices));
    println!();
    let slower = |group: &Group| {
        let [(_, land), (_, stage), _, _] = &group.used;
        let requests = |used: &Usage| used.requests.values().sum::<u64>();
        let mb_ms = 10
            * (requests(land) * LAND_MB
                + requests(stage) * STAGE_MB
                + u64::from(PROMOTE_ROUNDS) * PROMOTE_MB);
        per_million(group, prices.cost(&Usage { mb_ms, ..Usage::default() }).total())
    };
    let each =
        groups.iter().zip(&CASES).map(|(g, case)| format!("{:.2} ({})", slower(g), case.name));
    println!("Were each answer 10 ms later: {} more.\n", each.collect::<Vec<_>>().join(", "));
}

fn elsewhere_table(groups: &[Group], prices: &Prices) -> Result<(), Failure> {
    let list: Value = serde_json::from_str(PRICES)?;
    let price = |path: &str| -> Result<f64, Failure> {
        let row = list["regions"][FALLBACK].pointer(path).ok_or(format!("no {path}"))?;
        Ok(row["price"].as_str().ok_or("a price is text")?.parse()?)
    };
    let firehose = price("/firehose/ingestion")? + price("/firehose/format_conversion")?;
    // Two DPUs for a minute are the least that is billed.
    let glue = price("/glue/spark")? * 2.0 / 60.0;
    let snowpipe = price("/snowflake/snowpipe")? * price("/snowflake/credit")?;
    println!(
        "| dollars by the TB, in files of | sluicegate | Firehose with conversion | Glue, a run a file | Snowpipe |"
    );
    println!("|---|---:|---:|---:|---:|");
    for (case, group) in CASES.iter().zip(groups) {
        println!(
            "| {} | {:.2} | {:.2} | {:.2} | {:.2} |",
            case.name,
            per_tb(group, prices),
            firehose * 1e3,
            glue * 1e12 / case.size as f64,
            snowpipe * 1e3,
        );
    }
    println!();
    Ok(())
}

fn total(group: &Group, prices: &Prices) -> u64 {
    group.used.iter().map(|(_, used)| prices.cost(used).total()).sum()
}

/// Dollars.
fn per_million(group: &Group, nano: u64) -> f64 {
    nano as f64 / 1e9 / group.files * 1e6
}

fn per_tb(group: &Group, prices: &Prices) -> f64 {
    total(group, prices) as f64 / 1e9 / group.bytes * 1e12
}
