//! `sluicegate held` and `sluicegate report`: what waits for a person, and what a person decides.
//!
//! A decision is written first, then promote is asked to obey it; the same command again asks again.

use std::process::ExitCode;

use clap::{ArgGroup, Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use sluicegate_lake::aws::Clients;
use sluicegate_lake::{Dataset, Order, Queue, RawId, Source, Store, System, keys, list_all};
use sluicegate_runtime::{PromoteMessage, outgoing};
use sluicegate_table::held::{self, DecideError, Evidence, Request};
use sluicegate_table::report::{self, visible};
use sluicegate_table::{Record, Ruling, State};

use crate::Failure;
use crate::out::{refused, say};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List what is held
    #[command(group(ArgGroup::new("which").required(true)))]
    List {
        #[arg(group = "which")]
        dataset: Option<String>,
        /// Of all datasets
        #[arg(long, group = "which")]
        all: bool,
        /// Print JSON, one line a held file
        #[arg(long)]
        json: bool,
        /// The lake bucket
        #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
        lake: String,
    },
    /// Print why a file is held and what to do
    Show {
        dataset: String,
        /// A raw id, or a file's name in the inbox below its dataset
        which: String,
        #[command(flatten)]
        form: Form,
        /// The lake bucket
        #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
        lake: String,
    },
    /// Have a held file's accepted rows published
    Release(Decide),
    /// Have a held file's rows never published
    Reject(Decide),
}

#[derive(Args)]
pub(crate) struct Report {
    dataset: String,
    raw_id: String,
    #[command(flatten)]
    form: Form,
    /// The lake bucket
    #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
    lake: String,
}

#[derive(Args)]
#[group(multiple = false)]
pub(crate) struct Form {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print Markdown (the default)
    #[arg(long)]
    markdown: bool,
    /// Print one file of HTML
    #[arg(long)]
    html: bool,
}

#[derive(Args)]
pub(crate) struct Decide {
    dataset: String,
    raw_id: String,
    /// Why; whoever looks at the table's history reads it
    #[arg(long)]
    why: String,
    /// Who decides
    #[arg(long, env = "USER")]
    by: String,
    /// The staging that you looked at; refused if it is not the one that is held
    #[arg(long)]
    order: Option<String>,
    /// The lake bucket
    #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
    lake: String,
    /// The URL of the promote queue
    #[arg(long, env = "SLUICEGATE_PROMOTE_QUEUE_URL")]
    promote_queue: String,
}

/// A line of the list.
#[derive(Serialize)]
struct Listed<'a> {
    dataset: &'a Dataset,
    raw_id: &'a RawId,
    source: &'a Source,
    order: Order,
    landed_at: Timestamp,
    rows: u64,
    quarantined: u64,
    reason: Option<&'a str>,
}

pub(crate) async fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::List { dataset, all: _, json, lake } => {
            let store = Clients::from_env().await.bucket(lake);
            list(&store, dataset.as_deref(), json).await
        }
        Command::Show { dataset, which, form, lake } => {
            let store = Clients::from_env().await.bucket(lake);
            show(&store, &dataset.parse()?, &which, &form).await
        }
        Command::Release(arguments) => decide(&arguments, Ruling::Released).await,
        Command::Reject(arguments) => decide(&arguments, Ruling::Rejected).await,
    }
}

pub(crate) async fn report(arguments: &Report) -> Result<ExitCode, Failure> {
    let store = Clients::from_env().await.bucket(&arguments.lake);
    let (dataset, raw_id) = (arguments.dataset.parse()?, arguments.raw_id.parse()?);
    match held::evidence(&store, &dataset, &raw_id).await? {
        Some(evidence) => print(&store, &evidence, &arguments.form),
        None => Ok(refused(format_args!("nothing is staged of {raw_id}"))),
    }
}

async fn list(store: &dyn Store, dataset: Option<&str>, json: bool) -> Result<ExitCode, Failure> {
    let datasets = match dataset {
        Some(dataset) => vec![dataset.parse()?],
        None => datasets(store).await?,
    };
    let mut count = 0;
    for dataset in &datasets {
        for record in held::list(store, dataset).await? {
            count += 1;
            if json {
                say!("{}", serde_json::to_string(&listed(dataset, &record))?);
            } else {
                let reason = record.reason.as_deref().unwrap_or_default();
                let file = visible(&name(&record.source));
                let (landed, rows) = (record.raw_id.landed_at(), record.rows);
                say!("{dataset}  {}  {file}  landed {landed}  {rows} rows", record.raw_id);
                say!("    {}", visible(reason));
            }
        }
    }
    if count == 0 && !json {
        say!("nothing is held");
    }
    Ok(ExitCode::SUCCESS)
}

fn listed<'a>(dataset: &'a Dataset, record: &'a Record) -> Listed<'a> {
    Listed {
        dataset,
        raw_id: &record.raw_id,
        source: &record.source,
        order: record.order,
        landed_at: record.raw_id.landed_at(),
        rows: record.rows,
        quarantined: record.quarantined,
        reason: record.reason.as_deref(),
    }
}

/// The datasets that have a contract: only of those anything is staged.
pub(crate) async fn datasets(store: &dyn Store) -> Result<Vec<Dataset>, Failure> {
    let contracts = list_all(store, keys::CONTRACTS).await?;
    let named = contracts.iter().filter_map(|object| keys::parse_contract_pointer(&object.key));
    Ok(named.collect())
}

async fn show(
    store: &dyn Store,
    dataset: &Dataset,
    which: &str,
    form: &Form,
) -> Result<ExitCode, Failure> {
    let raw_id: RawId = match which.parse() {
        Ok(raw_id) => raw_id,
        Err(_) => {
            let source = Source::of_inbox_key(which)?;
            let versions = held::versions(store, dataset, &source).await?;
            match versions.iter().rev().find(|r| r.state == State::Held).or(versions.last()) {
                Some(record) => record.raw_id.clone(),
                None => {
                    return Ok(refused(format_args!(
                        "nothing called {which} is promoted: it is unknown or pending"
                    )));
                }
            }
        }
    };
    let evidence = held::evidence(store, dataset, &raw_id).await?;
    match evidence.as_ref().map(|e| (e, e.record.as_ref().map(|record| record.state))) {
        None => Ok(refused(format_args!("nothing is staged of {raw_id}"))),
        Some((_, None)) => {
            Ok(refused(format_args!("{raw_id} is staged and not yet promoted: it is pending")))
        }
        Some((evidence, Some(State::Held))) => print(store, evidence, form),
        Some((_, Some(state))) => Ok(refused(format_args!(
            "{raw_id} is {}, not held; `sluicegate report {dataset} {raw_id}` tells of it",
            state.word()
        ))),
    }
}

fn print(store: &dyn Store, evidence: &Evidence, form: &Form) -> Result<ExitCode, Failure> {
    let Evidence { proposal, decision, .. } = evidence;
    let report = report::Report::of(proposal, decision.as_ref(), &store.uri(""));
    let text = if form.json {
        serde_json::to_string(&report)?
    } else if form.html {
        report.html()
    } else {
        report.markdown()
    };
    say!("{}", text.trim_end());
    Ok(ExitCode::SUCCESS)
}

async fn decide(arguments: &Decide, ruling: Ruling) -> Result<ExitCode, Failure> {
    let Decide { dataset, raw_id, why, by, order, lake, promote_queue } = arguments;
    let (dataset, raw_id): (Dataset, RawId) = (dataset.parse()?, raw_id.parse()?);
    let order = order.as_deref().map(str::parse).transpose()?;
    let (why, by) = (why.trim(), by.trim());
    if why.is_empty() || by.is_empty() {
        return Err("say why, and who decides".into());
    }
    let clients = Clients::from_env().await;
    let request = Request { raw_id: &raw_id, order, ruling, by, why };
    let decided = held::decide(&clients.bucket(lake), &System, &dataset, &request).await;
    let (record, decision) = match decided {
        Ok(decided) => decided,
        Err(DecideError::Refused(refusal)) => return Ok(refused(format_args!("{refusal}"))),
        Err(DecideError::Failed(error)) => return Err(error.into()),
    };
    let Record { raw_id, source, order, .. } = record;
    let message = PromoteMessage { v: 1, dataset, source, raw_id, order };
    clients.queue(promote_queue).send(&[outgoing(&message.dataset, &message)?]).await?;
    say!("{}: {}", message.raw_id, visible(&decision.to_string()));
    Ok(ExitCode::SUCCESS)
}

fn name(source: &Source) -> String {
    source.inbox_key().unwrap_or_else(|| source.to_string())
}
