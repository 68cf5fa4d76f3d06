//! `sluicegate replay`: what staging raw objects again should cost, and doing it within a budget.
//!
//! A plan sends nothing. A run is allowed first, by an object beside its plan, and then replay is asked to carry it out; the same command
//! again asks again. Whoever follows it only looks: it goes on without them. A verification writes nothing.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use jiff::civil::Date;
use serde::Serialize;
use sluicegate_cli::verify::{Difference, Verified, Verifier};
use sluicegate_lake::aws::Clients;
use sluicegate_lake::{Dataset, PlanId, Queue, Store, System};
use sluicegate_runtime::cost::nano_of_usd;
use sluicegate_runtime::{RunMessage, outgoing};
use sluicegate_stage::Scratch;
use sluicegate_table::State;
use sluicegate_table::budget;
use sluicegate_table::replay::{self, Plan, Progress, ReplayError, RunState, Selection};

use crate::Failure;
use crate::out::{month, refused, say, usd};
use crate::progress;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Say what staging raw objects again should cost, and keep that as a plan
    Plan(Box<Select>),
    /// Carry a plan out, within a budget
    Run(Run),
    /// List a dataset's plans
    List {
        dataset: String,
        /// The lake bucket
        #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
        lake: String,
    },
    /// Print what a plan should cost, and what it has cost so far
    Show {
        dataset: String,
        plan: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The lake bucket
        #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
        lake: String,
    },
    /// Stage published raw objects again without publishing, and compare the bytes with what is published
    Verify(Verify),
}

/// All of a dataset's staged objects, unless something is said. Days are UTC, and included.
#[derive(Args)]
pub(crate) struct Select {
    dataset: String,
    /// This raw object; may be given again
    #[arg(long)]
    raw_id: Vec<String>,
    /// Landed on this day or later
    #[arg(long)]
    landed_from: Option<Date>,
    /// Landed on this day or earlier
    #[arg(long)]
    landed_to: Option<Date>,
    /// With events of this day or later
    #[arg(long)]
    events_from: Option<Date>,
    /// With events of this day or earlier
    #[arg(long)]
    events_to: Option<Date>,
    /// published, held, rejected, superseded or withdrawn
    #[arg(long, value_parser = state)]
    state: Option<State>,
    /// With quarantined rows
    #[arg(long)]
    quarantined: bool,
    /// Staged under an older version of the contract than the one of this sequence
    #[arg(long)]
    contract_below: Option<u32>,
    /// Staged by an older engine than this
    #[arg(long)]
    engine_below: Option<u32>,
    /// Raw objects that are staged again at the same time: by the stack's `Scale` 2 (small), 5 (medium) or 50 (large)
    #[arg(long, env = "SLUICEGATE_REPLAY_CONCURRENCY", default_value_t = 5)]
    concurrency: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The lake bucket
    #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
    lake: String,
}

#[derive(Args)]
pub(crate) struct Run {
    dataset: String,
    plan: String,
    /// Dollars that it may spend from its first message on, such as 1.50
    #[arg(long)]
    budget: String,
    /// Go as far as a budget pays for that is below what the plan should cost
    #[arg(long)]
    partly: bool,
    /// Tell how far it is until it ends; 1 if it ends with something left. On a terminal that is the default
    #[arg(long, overrides_with = "no_follow")]
    follow: bool,
    /// Only ask for it
    #[arg(long)]
    no_follow: bool,
    /// The lake bucket
    #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
    lake: String,
    /// The URL of the replay queue
    #[arg(long, env = "SLUICEGATE_REPLAY_QUEUE_URL")]
    replay_queue: String,
}

#[derive(Args)]
pub(crate) struct Verify {
    dataset: String,
    /// Raw objects, spread evenly over the published ones
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    sample: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The lake bucket
    #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
    lake: String,
}

/// Megabytes of files that stage may keep here, as much as Lambda has at most.
const SCRATCH_MB: u64 = 10_240;

#[derive(Serialize)]
struct Shown<'a> {
    plan: &'a Plan,
    nano_usd: u64,
    gb_seconds: f64,
    requests: f64,
    minutes: f64,
    progress: Option<&'a Progress>,
}

fn state(word: &str) -> Result<State, String> {
    use State::{Held, Published, Rejected, Superseded, Withdrawn};
    let states = [Published, Held, Rejected, Superseded, Withdrawn];
    let found = states.into_iter().find(|state| state.word() == word);
    found.ok_or_else(|| states.map(State::word).join(", "))
}

pub(crate) async fn run(command: Command) -> Result<ExitCode, Failure> {
    let done = |()| ExitCode::SUCCESS;
    let outcome = match command {
        Command::Plan(select) => plan(*select).await.map(done),
        Command::Run(run) => start(run).await,
        Command::List { dataset, lake } => list(&dataset, &lake).await.map(done),
        Command::Show { dataset, plan, json, lake } => {
            show(&dataset, &plan, json, &lake).await.map(done)
        }
        Command::Verify(what) => verify(what).await,
    };
    match outcome {
        Ok(code) => Ok(code),
        Err(failure) => match failure.downcast_ref::<ReplayError>() {
            Some(ReplayError::Refused(why)) => Ok(refused(format_args!("{why}"))),
            _ => Err(failure),
        },
    }
}

async fn plan(select: Select) -> Result<(), Failure> {
    let raw_ids = select.raw_id.iter().map(|id| id.parse());
    let selection = Selection {
        dataset: select.dataset.parse()?,
        raw_ids: raw_ids.collect::<Result<_, _>>()?,
        landed_from: select.landed_from,
        landed_to: select.landed_to,
        events_from: select.events_from,
        events_to: select.events_to,
        state: select.state,
        quarantined: select.quarantined,
        contract_below: select.contract_below,
        engine_below: select.engine_below,
    };
    let store = Clients::from_env().await.bucket(select.lake);
    let plan = replay::plan(&store, &System, selection, select.concurrency).await?;
    print(&plan, None, select.json)?;
    if !select.json {
        print_month(&store, &plan).await;
    }
    Ok(())
}

async fn start(run: Run) -> Result<ExitCode, Failure> {
    let (dataset, id): (Dataset, PlanId) = (run.dataset.parse()?, run.plan.parse()?);
    let budget = nano_of_usd(&run.budget)
        .ok_or_else(|| format!("a budget is dollars such as 1.50, not {}", run.budget))?;
    let clients = Clients::from_env().await;
    let store = clients.bucket(run.lake);
    let allowed = replay::authorize(&store, &System, &dataset, &id, budget, run.partly).await?;
    let (plan, progress) = allowed;
    if progress.state == RunState::Running {
        let message = RunMessage::new(dataset.clone(), id.clone(), progress.step);
        clients.queue(run.replay_queue).send(&[outgoing(&dataset, &message)?]).await?;
    }
    print(&plan, Some(&progress), false)?;
    print_month(&store, &plan).await;
    if run.no_follow || !(run.follow || io::stdout().is_terminal()) {
        return Ok(ExitCode::SUCCESS);
    }
    let ended = progress::follow(&store, &dataset, &id).await?;
    advice(ended).into_iter().for_each(|advice| say!("{advice}"));
    Ok(ExitCode::from(u8::from(ended != RunState::Done)))
}

/// What was asked for is done by then: that the month cannot be read is no failure of it.
async fn print_month(store: &dyn Store, plan: &Plan) {
    match budget::read(store, &System, &plan.selection.dataset).await {
        Ok(standing) => say!("{}", month(&standing)),
        Err(error) => say!("this month cannot be read: {error}"),
    }
}

async fn list(dataset: &str, lake: &str) -> Result<(), Failure> {
    let dataset: Dataset = dataset.parse()?;
    let store = Clients::from_env().await.bucket(lake);
    for id in replay::list(&store, &dataset).await? {
        let (plan, progress) = replay::show(&store, &dataset, &id).await?;
        let state = progress.map_or("planned", |p| p.state.word());
        say!(
            "{id}  {}  {state:<8}  {} objects, {:.6} dollars",
            plan.at,
            plan.objects,
            usd(plan.cost())
        );
    }
    Ok(())
}

async fn show(dataset: &str, plan: &str, json: bool, lake: &str) -> Result<(), Failure> {
    let store = Clients::from_env().await.bucket(lake);
    let store: &dyn Store = &store;
    let (plan, progress) = replay::show(store, &dataset.parse()?, &plan.parse()?).await?;
    print(&plan, progress.as_ref(), json)
}

async fn verify(what: Verify) -> Result<ExitCode, Failure> {
    let verifier = Verifier {
        lake: Arc::new(Clients::from_env().await.bucket(what.lake)),
        ambient: Arc::new(System),
        scratch: Scratch::new(std::env::temp_dir(), SCRATCH_MB << 20),
    };
    let verified = verifier.verify(&what.dataset.parse()?, what.sample).await?;
    if what.json {
        say!("{}", serde_json::to_string(&verified)?);
    } else {
        for line in told(&verified) {
            say!("{line}");
        }
    }
    if verified.staged == 0 {
        return Err("nothing was compared".into());
    }
    Ok(ExitCode::from(u8::from(!verified.differences.is_empty())))
}

fn told(verified: &Verified) -> Vec<String> {
    let Verified { dataset, published, chosen, staged, engine, files, bytes, .. } = verified;
    let mut lines = vec![format!("{chosen} of {published} published raw objects of {dataset}")];
    for (other, count) in &verified.other_engines {
        let what = if other < engine {
            format!("replay them to bring them up (--engine-below {engine})")
        } else {
            "verify them with a build as new".to_owned()
        };
        lines.push(format!("  {count} staged by engine {other}, this is {engine}: {what}"));
    }
    let megabytes = *bytes as f64 / 1e6;
    let is_same = *files > 0 && verified.differences.is_empty();
    let same = if is_same { ": byte for byte as published" } else { "" };
    lines.push(format!("  {staged} staged again, {files} files, {megabytes:.1} MB{same}"));
    for Difference { raw_id, file, published, staged, at } in &verified.differences {
        let size = |bytes: &Option<u64>| bytes.map_or("none".to_owned(), |n| format!("{n} bytes"));
        let from = at.map_or(String::new(), |at| format!(", the first that differs is byte {at}"));
        lines.push(format!("{raw_id} differs: {file}"));
        lines.push(format!("  published {}, staged again {}{from}", size(published), size(staged)));
    }
    lines
}

fn print(plan: &Plan, progress: Option<&Progress>, json: bool) -> Result<(), Failure> {
    if json {
        let shown = Shown {
            plan,
            nano_usd: plan.cost(),
            gb_seconds: plan.gb_seconds(),
            requests: plan.requests(),
            minutes: plan.minutes(),
            progress,
        };
        say!("{}", serde_json::to_string(&shown)?);
        return Ok(());
    }
    for line in lines(plan, progress) {
        say!("{line}");
    }
    Ok(())
}

fn lines(plan: &Plan, progress: Option<&Progress>) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{} of {}: {} objects, {:.1} MB",
            plan.id,
            plan.selection.dataset,
            plan.objects,
            plan.bytes as f64 / 1e6
        ),
        format!(
            "should cost {:.6} dollars: {:.1} GB seconds, {:.0} requests; {:.1} minutes, {} at a time",
            usd(plan.cost()),
            plan.gb_seconds(),
            plan.requests(),
            plan.minutes(),
            plan.concurrency
        ),
    ];
    let parts = plan.receipt.cost_nano_usd.parts();
    lines.extend(parts.map(|(part, cost)| format!("  {:>12.6}  {part}", usd(cost))));
    let publishing = plan.publishing.saturating_mul(plan.objects);
    lines.push(format!("  {:>12.6}  publishing", usd(publishing)));
    let unpriced = plan.objects.saturating_sub(plan.priced_objects);
    if unpriced > 0 {
        let priced = plan.receipt.cost_nano_usd.total().saturating_add(publishing);
        let rest = plan.cost().saturating_sub(priced);
        lines.push(format!("  {:>12.6}  {unpriced} objects without a priced receipt", usd(rest)));
    }
    if let Some(p) = progress {
        lines.push(format!(
            "{}: {} of {} sent, {} settled; budget {:.6} dollars",
            p.state.word(),
            p.sent,
            plan.objects,
            p.settled,
            usd(p.budget)
        ));
        lines.push(format!(
            "  {:.6} spent, {:.6} reserved; what was sent should cost {:.6}",
            usd(p.spent),
            usd(p.reserved),
            usd(p.estimated)
        ));
        lines.extend(advice(p.state).map(str::to_owned));
    }
    lines
}

/// What to do about a run that has ended with something left.
fn advice(state: RunState) -> Option<&'static str> {
    match state {
        RunState::Capped => Some("  the budget is used up: run it with more"),
        RunState::Month => Some(
            "  what is left of this month's budget for replays does not pay for the next object: run it again next month, or under a contract that allows more",
        ),
        RunState::Stalled => Some(
            "  what was sent is not staged: look at the stage-replay queues, then run it again",
        ),
        RunState::Running | RunState::Done => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_verification_tells_other_engines_and_what_differs() {
        let raw_id = "20130102T030405Z-0123456789abcdef0123456789abcdef";
        let mut verified = Verified {
            dataset: "flights".parse().unwrap(),
            published: 4312,
            chosen: 10,
            staged: 7,
            engine: 3,
            other_engines: [(2, 2), (4, 1)].into(),
            files: 20,
            bytes: 12_340_000,
            differences: Vec::new(),
        };
        let text = told(&verified).join("\n");
        assert_eq!(
            text,
            "10 of 4312 published raw objects of flights\n\
             \x20 2 staged by engine 2, this is 3: replay them to bring them up (--engine-below 3)\n\
             \x20 1 staged by engine 4, this is 3: verify them with a build as new\n\
             \x20 7 staged again, 20 files, 12.3 MB: byte for byte as published"
        );
        verified.differences.push(Difference {
            raw_id: raw_id.parse().unwrap(),
            file: "tables/flights/data/x.parquet".to_owned(),
            published: Some(9),
            staged: Some(8),
            at: Some(4),
        });
        let text = told(&verified).join("\n");
        assert!(!text.contains("byte for byte"));
        assert!(
            text.ends_with(
                "differs: tables/flights/data/x.parquet\n  \
                 published 9 bytes, staged again 8 bytes, the first that differs is byte 4"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_plan_is_shown_with_its_parts_and_a_capped_one_says_so() {
        let plan: Plan = serde_json::from_value(json!({
            "v": 1, "id": "e0000000012-0123456789ab", "at": "2013-01-02T03:04:05Z", "selection": {"dataset": "flights"},
            "epoch": 12, "objects": 4, "bytes": 4_000_000, "priced_objects": 2, "priced_bytes": 2_000_000, "concurrency": 2,
            "receipt": {"duration_ms": 120_000, "mb_ms": 1_024_000, "requests": {"s3:PutObject": 10},
                "cost_nano_usd": {"compute": 2_000_000, "s3": 1_000_000}, "prices": 1},
        }))
        .unwrap();
        let progress: Progress = serde_json::from_value(json!({
            "v": 1, "state": "capped", "budget": 3_000_000, "sent": 2, "claimed": 2, "estimated": 3_000_000, "settled": 2,
            "spent": 2_900_000, "reserved": 0, "open": [0], "closed": 0, "closed_spent": 0, "step": 3, "at": "2013-01-02T03:04:05Z",
        }))
        .unwrap();
        let text = lines(&plan, Some(&progress)).join("\n");
        for part in [
            "should cost 0.006000 dollars: 2.0 GB seconds, 20 requests; 2.0 minutes",
            "0.003000  2 objects without a priced receipt",
            "capped: 2 of 4 sent, 2 settled; budget 0.003000 dollars",
            "0.002900 spent",
            "run it with more",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
