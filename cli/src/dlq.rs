//! `sluicegate dlq`: messages that were given up, why, and what becomes of them.
//!
//! SQS keeps no reason with a message. Of a failed event Lambda does, and it is told. Of any other message the reason is asked for
//! again, now: what the function would look at is looked at, and what stands in its way is said in the same words; where nothing
//! does, the cause has gone, or only the log knows it. To list is to take: messages are hidden while they are read, and come back.
//!
//! A redrive sends a message to its queue before it takes it out here: a death in between leaves it twice, which is
//! harmless, since every handler is idempotent. Nothing is dropped unprinted.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sluicegate_lake::aws::Clients;
use sluicegate_lake::{Dataset, Order, Outgoing, Queue, QueueError, RawId, Received, Source};
use sluicegate_lake::{Store, StoreError, keys};
use sluicegate_runtime::{
    Incoming, PromoteMessage, ReplayRequest, StageMessage, Upload, What, uploads,
};
use sluicegate_table::report::visible;
use sluicegate_table::{Proposal, View, current_contract};

use crate::Failure;
use crate::out::{refused, say};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List what was given up, and why
    List {
        /// The work it was for; of all work if absent
        queue: Option<Work>,
        /// Print JSON, one line a message
        #[arg(long)]
        json: bool,
        /// List no more of a queue
        #[arg(long, default_value_t = 1000)]
        max: usize,
        #[command(flatten)]
        stack: Place,
    },
    /// Print one message whole, why it was given up, and what to do
    Show {
        queue: Work,
        message_id: String,
        /// Print JSON
        #[arg(long, group = "form")]
        json: bool,
        /// Print only what the function was given
        #[arg(long, group = "form")]
        payload: bool,
        #[command(flatten)]
        stack: Place,
    },
    /// Have messages tried again, with all their tries
    Redrive {
        #[command(flatten)]
        chosen: Chosen,
        /// Messages a second
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rate: u32,
        #[command(flatten)]
        stack: Place,
    },
    /// Delete messages, printing each
    Drop {
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        stack: Place,
    },
}

/// Where a stack's queues and lake are.
#[derive(Args)]
pub(crate) struct Place {
    /// The stack, by whose name its queues are called
    #[arg(long, env = "SLUICEGATE_STACK")]
    stack: String,
    /// The lake bucket
    #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
    lake: String,
}

#[derive(Args)]
#[command(group(ArgGroup::new("which").required(true)))]
pub(crate) struct Chosen {
    queue: Work,
    #[arg(group = "which")]
    message_ids: Vec<String>,
    /// Those of a dataset
    #[arg(long, group = "which")]
    dataset: Option<String>,
    /// All of them
    #[arg(long, group = "which")]
    all: bool,
    /// No more than this
    #[arg(long, default_value_t = 1000)]
    max: usize,
}

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    #[value(alias = "stage-dlq")]
    Stage,
    #[value(alias = "stage-replay-dlq")]
    StageReplay,
    #[value(alias = "promote-dlq")]
    Promote,
    #[value(alias = "promote-replay-dlq")]
    PromoteReplay,
    #[value(alias = "replay-dlq")]
    Replay,
    /// S3 events; nothing waits for land in a queue
    LandFailed,
}

impl Work {
    pub(crate) const ALL: [Self; 6] = [
        Self::LandFailed,
        Self::Stage,
        Self::StageReplay,
        Self::Promote,
        Self::PromoteReplay,
        Self::Replay,
    ];

    /// What the command line calls it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Stage => "stage",
            Self::StageReplay => "stage-replay",
            Self::Promote => "promote",
            Self::PromoteReplay => "promote-replay",
            Self::Replay => "replay",
            Self::LandFailed => "land-failed",
        }
    }

    /// The function that does it.
    fn function(self) -> &'static str {
        match self {
            Self::Stage | Self::StageReplay => "stage",
            Self::Promote | Self::PromoteReplay => "promote",
            Self::Replay => "replay",
            Self::LandFailed => "land",
        }
    }

    /// The queue that it waits in, after the stack's name.
    pub(crate) fn queue(self) -> Option<&'static str> {
        (self != Self::LandFailed).then(|| self.word())
    }

    /// The queue of what was given up, after the stack's name.
    pub(crate) fn dead(self) -> &'static str {
        match self {
            Self::Stage => "stage-dlq",
            Self::StageReplay => "stage-replay-dlq",
            Self::Promote => "promote-dlq",
            Self::PromoteReplay => "promote-replay-dlq",
            Self::Replay => "replay-dlq",
            Self::LandFailed => "land-failed",
        }
    }
}

/// A message that was given up, as it is told.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Letter {
    pub(crate) queue: &'static str,
    pub(crate) message_id: String,
    dataset: Option<Dataset>,
    /// Its name in the inbox below its dataset.
    file: Option<String>,
    raw_id: Option<RawId>,
    landed_at: Option<Timestamp>,
    pub(crate) reason: String,
    next: String,
    body: String,
}

/// What a message is about, as far as it can be read.
#[derive(Default)]
struct Subject {
    dataset: Option<Dataset>,
    source: Option<Source>,
    raw_id: Option<RawId>,
}

/// What became of the messages that were chosen.
#[derive(Debug, PartialEq, Eq)]
struct Taken {
    done: usize,
    /// Those that are still there, chosen or not, as far as is known.
    left: u64,
}

pub(crate) async fn run(command: Command) -> Result<ExitCode, Failure> {
    let clients = Clients::from_env().await;
    match command {
        Command::List { queue, json, max, stack } => {
            let store = clients.bucket(&stack.lake);
            let all = match &queue {
                Some(one) => std::slice::from_ref(one),
                None => &Work::ALL,
            };
            for work in all {
                let dead = named(&clients, &stack.stack, work.dead()).await?;
                let depth = dead.depth().await?.waiting;
                let letters = letters(&store, *work, &stack.stack, &peek(&dead, max).await?).await;
                if json {
                    for letter in &letters {
                        say!("{}", serde_json::to_string(letter)?);
                    }
                } else {
                    print_list(*work, depth, &letters);
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Show { queue, message_id, json, payload, stack } => {
            let dead = named(&clients, &stack.stack, queue.dead()).await?;
            let found = peek(&dead, usize::MAX).await?;
            let found = found.into_iter().filter(|m| m.id == message_id).collect::<Vec<_>>();
            let letters = letters(&clients.bucket(&stack.lake), queue, &stack.stack, &found).await;
            let Some(letter) = letters.first() else {
                let dead = queue.dead();
                return Ok(refused(format_args!("{message_id} is not in {dead}: list it again")));
            };
            if json {
                say!("{}", serde_json::to_string(letter)?);
            } else if payload {
                say!("{}", payload_of(queue, &letter.body));
            } else {
                print_one(letter);
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Redrive { chosen, rate, stack } => {
            let Some(queue) = chosen.queue.queue() else {
                let how = invoke_again(&stack.stack, "MESSAGE_ID");
                return Ok(refused(format_args!("no queue leads to land: {how}")));
            };
            let to = named(&clients, &stack.stack, queue).await?;
            let from = named(&clients, &stack.stack, chosen.queue.dead()).await?;
            let pause = Duration::from_secs(1) / rate;
            let act = async |message: &Received| {
                let group = subject(chosen.queue, &message.body).dataset;
                let group =
                    group.map_or_else(|| "unread".to_owned(), |dataset| dataset.to_string());
                to.send(&[Outgoing { body: message.body.clone(), group }]).await?;
                from.delete(&message.receipt).await?;
                tokio::time::sleep(pause).await;
                Ok(())
            };
            chosen.finish("redriven", take(&from, &chosen.choice()?, act).await?)
        }
        Command::Drop { chosen, stack } => {
            let from = named(&clients, &stack.stack, chosen.queue.dead()).await?;
            let act = async |message: &Received| {
                say!("{}", visible(&message.body));
                from.delete(&message.receipt).await
            };
            chosen.finish("dropped", take(&from, &chosen.choice()?, act).await?)
        }
    }
}

/// A queue of a stack.
pub(crate) async fn named(
    clients: &Clients,
    stack: &str,
    name: &str,
) -> Result<impl Queue + use<>, QueueError> {
    clients.queue_named(&format!("{stack}-{name}")).await
}

/// What was given up of one raw object's staging and promotion, by stack.
pub(crate) async fn of_raw_object(
    clients: &Clients,
    store: &dyn Store,
    stack: &str,
    raw_id: &RawId,
) -> Result<Vec<Letter>, Failure> {
    let mut found = Vec::new();
    for work in [Work::Stage, Work::StageReplay, Work::Promote, Work::PromoteReplay] {
        let mut messages = peek(&named(clients, stack, work.dead()).await?, 1000).await?;
        messages.retain(|m| subject(work, &m.body).raw_id.as_ref() == Some(raw_id));
        found.extend(letters(store, work, stack, &messages).await);
    }
    Ok(found)
}

/// Which messages are meant.
struct Choice {
    work: Work,
    ids: BTreeSet<String>,
    dataset: Option<Dataset>,
    max: usize,
}

impl Chosen {
    fn choice(&self) -> Result<Choice, Failure> {
        let Self { queue, message_ids, dataset, all: _, max } = self;
        let dataset = dataset.as_deref().map(str::parse).transpose()?;
        Ok(Choice { work: *queue, ids: message_ids.iter().cloned().collect(), dataset, max: *max })
    }

    fn finish(&self, verb: &str, taken: Taken) -> Result<ExitCode, Failure> {
        let missing = self.message_ids.len().saturating_sub(taken.done);
        if missing > 0 {
            let (done, dead) = (taken.done, self.queue.dead());
            let what = format_args!("{missing} not in {dead}, {done} {verb}: list it again");
            return Ok(refused(what));
        }
        say!("{} {verb}, {} left in {}", taken.done, taken.left, self.queue.dead());
        Ok(ExitCode::SUCCESS)
    }
}

impl Choice {
    fn means(&self, message: &Received) -> bool {
        if let Some(dataset) = &self.dataset {
            return subject(self.work, &message.body).dataset.as_ref() == Some(dataset);
        }
        self.ids.is_empty() || self.ids.contains(&message.id)
    }

    fn wants_more(&self, done: usize) -> bool {
        done < self.max && (self.ids.is_empty() || done < self.ids.len())
    }
}

/// Reads the messages of a queue that nobody works on, each once, and lets them go again.
async fn peek(queue: &dyn Queue, max: usize) -> Result<Vec<Received>, QueueError> {
    let mut read = Vec::new();
    let there = usize::try_from(queue.depth().await?.waiting).unwrap_or(usize::MAX).min(max);
    let mut ids = BTreeSet::new();
    let outcome = loop {
        if ids.len() >= there {
            break Ok(());
        }
        match queue.receive(Duration::from_secs(1)).await {
            Ok(more) if more.is_empty() => break Ok(()),
            Ok(more) => {
                let before = ids.len();
                read.extend(more.into_iter().filter(|m| ids.insert(m.id.clone())));
                if ids.len() == before {
                    break Ok(());
                }
            }
            Err(error) => break Err(error),
        }
    };
    for message in &read {
        // What is not let go comes back by itself, only later.
        let _ = queue.release(&message.receipt, Duration::ZERO).await;
    }
    outcome?;
    read.truncate(max);
    Ok(read)
}

/// Does something to each message that is meant and was there at the beginning; lets the others go again.
async fn take(
    queue: &dyn Queue,
    choice: &Choice,
    mut act: impl AsyncFnMut(&Received) -> Result<(), QueueError>,
) -> Result<Taken, QueueError> {
    let there = queue.depth().await?.waiting;
    let (mut seen, mut back, mut done) = (BTreeSet::new(), Vec::new(), 0);
    let mut outcome = Ok(());
    'queue: while (seen.len() as u64) < there && choice.wants_more(done) {
        let messages = match queue.receive(Duration::from_secs(1)).await {
            Ok(messages) if messages.is_empty() => break,
            Ok(messages) => messages,
            Err(error) => {
                outcome = Err(error);
                break;
            }
        };
        let mut left = messages.into_iter();
        while let Some(message) = left.next() {
            let again = !seen.insert(message.id.clone());
            if again || !choice.means(&message) || !choice.wants_more(done) {
                back.push(message);
                if again {
                    break 'queue;
                }
                continue;
            }
            if let Err(error) = act(&message).await {
                back.push(message);
                back.extend(left);
                outcome = Err(error);
                break 'queue;
            }
            done += 1;
        }
    }
    for message in &back {
        let _ = queue.release(&message.receipt, Duration::ZERO).await;
    }
    outcome?;
    Ok(Taken { done, left: queue.depth().await?.waiting })
}

async fn letters(store: &dyn Store, work: Work, stack: &str, messages: &[Received]) -> Vec<Letter> {
    let mut letters = Vec::new();
    for message in messages {
        letters.push(letter(store, work, stack, message).await);
    }
    letters
}

async fn letter(store: &dyn Store, work: Work, stack: &str, message: &Received) -> Letter {
    let Subject { dataset, source, raw_id } = subject(work, &message.body);
    let (reason, next) = match work {
        Work::LandFailed => (said_by_lambda(&message.body), invoke_again(stack, &message.id)),
        _ => match obstacle(store, work, &message.body).await {
            Ok(Found::Obstacle(reason)) => {
                (reason, format!("once that is mended, {}", redrive(work, &message.id)))
            }
            Ok(Found::Unreadable(reason)) => (
                reason,
                format!("no redrive helps: sluicegate dlq drop {} {}", work.word(), message.id),
            ),
            Ok(Found::Done(state)) => (
                format!("its work is done since: it is {state}"),
                format!("nothing is lost by sluicegate dlq drop {} {}", work.word(), message.id),
            ),
            Ok(Found::Nothing) => (
                "nothing stands in its way now; what did, only the log knows".to_owned(),
                format!("{}; {}", redrive(work, &message.id), log_of(stack, work, raw_id.as_ref())),
            ),
            Err(error) => (format!("it cannot be looked at now: {error}"), "ask again".to_owned()),
        },
    };
    Letter {
        queue: work.dead(),
        message_id: message.id.clone(),
        dataset,
        file: source.map(|s| s.inbox_key().unwrap_or_else(|| s.to_string())),
        landed_at: raw_id.as_ref().map(RawId::landed_at),
        raw_id,
        reason,
        next,
        body: message.body.clone(),
    }
}

fn redrive(work: Work, id: &str) -> String {
    format!("sluicegate dlq redrive {} {id}", work.word())
}

fn log_of(stack: &str, work: Work, raw_id: Option<&RawId>) -> String {
    let function = work.function();
    let pattern = raw_id.map_or("Failures", RawId::as_str);
    format!(
        "aws logs filter-log-events --log-group-name /aws/lambda/{stack}-{function} --filter-pattern '\"{pattern}\"'"
    )
}

/// How a failed event is handled again: Lambda took it from S3, not from a queue.
fn invoke_again(stack: &str, id: &str) -> String {
    format!(
        "sluicegate dlq show land-failed {id} --payload > event.json; aws lambda invoke --function-name {stack}-land \
         --payload fileb://event.json answer.json; then sluicegate dlq drop land-failed {id}"
    )
}

/// What a message is about.
fn subject(work: Work, body: &str) -> Subject {
    match work {
        Work::Stage | Work::StageReplay => read::<StageMessage>(body).map(|m| Subject {
            dataset: Some(m.dataset),
            source: Some(m.source),
            raw_id: Some(m.raw_id),
        }),
        Work::Promote | Work::PromoteReplay => read::<PromoteMessage>(body).map(|m| Subject {
            dataset: Some(m.dataset),
            source: Some(m.source),
            raw_id: Some(m.raw_id),
        }),
        Work::Replay => read::<ReplayRequest>(body)
            .map(|m| Subject { dataset: Some(m.dataset), ..Subject::default() }),
        Work::LandFailed => Ok(uploaded(body).map_or_else(Subject::default, |upload| match upload
            .what
        {
            What::Data { dataset, rest } => Subject {
                dataset: Some(dataset),
                source: Source::of_inbox_key(&rest).ok(),
                raw_id: None,
            },
            What::Contract { dataset } => Subject { dataset: Some(dataset), ..Subject::default() },
        })),
    }
    .unwrap_or_default()
}

/// The first upload that a failed event tells of.
fn uploaded(body: &str) -> Option<Upload> {
    let mut envelope: Value = serde_json::from_str(body).ok()?;
    let event = envelope.get_mut("requestPayload")?.take();
    uploads(event).into_iter().find_map(|incoming| match incoming {
        Incoming::Upload(upload) => Some(*upload),
        Incoming::Ignored(_) | Incoming::Malformed(_) => None,
    })
}

fn payload_of(work: Work, body: &str) -> String {
    let envelope = (work == Work::LandFailed).then(|| serde_json::from_str::<Value>(body).ok());
    let event = envelope.flatten().and_then(|e| e.get("requestPayload").map(Value::to_string));
    event.unwrap_or_else(|| body.to_owned())
}

/// What Lambda keeps with an event that failed: the last error, and how often it was tried.
fn said_by_lambda(body: &str) -> String {
    let Ok(envelope) = serde_json::from_str::<Value>(body) else {
        return "it is no envelope of Lambda's".to_owned();
    };
    let text = |pointer: &str| envelope.pointer(pointer).and_then(Value::as_str);
    let tries = envelope.pointer("/requestContext/approximateInvokeCount").and_then(Value::as_u64);
    let error = text("/responsePayload/errorMessage")
        .or(text("/requestContext/condition"))
        .unwrap_or("Lambda says nothing");
    tries.map_or_else(|| error.to_owned(), |tries| format!("{error} (tried {tries} times)"))
}

/// What is found where a function would look.
enum Found {
    /// It cannot do its work.
    Obstacle(String),
    /// The message itself is wrong.
    Unreadable(String),
    /// Its work is done; the state that it led to.
    Done(&'static str),
    Nothing,
}

/// Asks again what the function was asked for, as far as that can be seen from outside.
async fn obstacle(store: &dyn Store, work: Work, body: &str) -> Result<Found, Failure> {
    let unreadable =
        |e: serde_json::Error| Found::Unreadable(format!("message cannot be read: {e}"));
    match work {
        Work::Stage | Work::StageReplay => match read::<StageMessage>(body) {
            Ok(message) => stage_obstacle(store, &message).await,
            Err(error) => Ok(unreadable(error)),
        },
        Work::Promote | Work::PromoteReplay => match read::<PromoteMessage>(body) {
            Ok(message) => promote_obstacle(store, &message).await,
            Err(error) => Ok(unreadable(error)),
        },
        Work::Replay => match read::<ReplayRequest>(body) {
            Ok(request) => table_obstacle(store, &request.dataset).await,
            Err(error) => Ok(unreadable(error)),
        },
        Work::LandFailed => Ok(Found::Nothing),
    }
}

async fn stage_obstacle(store: &dyn Store, message: &StageMessage) -> Result<Found, Failure> {
    let StageMessage { dataset, source, raw_id, epoch, .. } = message;
    match current_contract(store, dataset).await {
        Ok(None) => {
            return Ok(Found::Obstacle(format!(
                "{dataset} has no contract: it would wait for one"
            )));
        }
        Ok(Some((_, version))) => {
            if let Err(findings) = version.contract() {
                return Ok(Found::Obstacle(format!("the contract: {findings}")));
            }
        }
        Err(error) => return Ok(Found::Obstacle(format!("the contract: {error}"))),
    }
    let key = keys::raw(dataset, source, raw_id);
    match store.head(&key, None).await {
        Ok(_) => {}
        Err(StoreError::Absent { key }) => {
            return Ok(Found::Obstacle(format!("there is no raw object {key}")));
        }
        Err(error) => return Err(error.into()),
    }
    recorded(store, dataset, raw_id, |order| order.epoch >= *epoch).await
}

async fn promote_obstacle(store: &dyn Store, message: &PromoteMessage) -> Result<Found, Failure> {
    let PromoteMessage { dataset, raw_id, order, .. } = message;
    let key = keys::proposal(dataset, raw_id, *order);
    let bytes = match store.get(&key).await {
        Ok((_, bytes)) => bytes,
        Err(StoreError::Absent { key }) => {
            return Ok(Found::Obstacle(format!("there is no proposal {key}")));
        }
        Err(error) => return Err(error.into()),
    };
    if let Err(error) = serde_json::from_slice::<Proposal>(&bytes) {
        return Ok(Found::Obstacle(format!("{key}: {error}")));
    }
    recorded(store, dataset, raw_id, |recorded| recorded >= *order).await
}

/// Whether the ledger can be read, and has the raw object by such an order.
async fn recorded(
    store: &dyn Store,
    dataset: &Dataset,
    raw_id: &RawId,
    enough: impl Fn(Order) -> bool,
) -> Result<Found, Failure> {
    match sluicegate_table::held::evidence(store, dataset, raw_id).await {
        Ok(evidence) => {
            let Some((record, decision)) = evidence.and_then(|e| Some((e.record?, e.decision)))
            else {
                return Ok(Found::Nothing);
            };
            let undone = record.awaits_decision() && decision.is_some();
            let done = enough(record.order) && !undone;
            Ok(if done { Found::Done(record.state.word()) } else { Found::Nothing })
        }
        Err(error) => Ok(Found::Obstacle(error.to_string())),
    }
}

async fn table_obstacle(store: &dyn Store, dataset: &Dataset) -> Result<Found, Failure> {
    match View::open(store, dataset).await {
        Ok(_) => Ok(Found::Nothing),
        Err(error) => Ok(Found::Obstacle(error.to_string())),
    }
}

fn read<T: DeserializeOwned>(body: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(body)
}

fn print_list(work: Work, depth: u64, letters: &[Letter]) {
    let (dead, shown) = (work.dead(), letters.len() as u64);
    match depth {
        0 => say!("{dead}: empty"),
        _ if shown < depth => say!("{dead}: {depth} messages, of which {shown} were looked at"),
        _ => say!("{dead}: {shown} messages"),
    }
    for letter in letters {
        say!("  {}  {}", letter.message_id, visible(&about(letter)));
        say!("      {}", visible(&letter.reason));
    }
}

fn print_one(letter: &Letter) {
    say!("{} in {}", letter.message_id, letter.queue);
    let about = about(letter);
    let landed = letter.landed_at.map(|at| format!("landed {at}")).unwrap_or_default();
    for (what, text) in [
        ("about", about.as_str()),
        ("", landed.as_str()),
        ("reason", &letter.reason),
        ("next", &letter.next),
        ("body", &letter.body),
    ] {
        if !text.is_empty() {
            say!("{what:<8}{}", visible(text));
        }
    }
}

fn about(letter: &Letter) -> String {
    let Letter { dataset, file, raw_id, .. } = letter;
    let Some(dataset) = dataset else { return "(it says nothing that can be read)".to_owned() };
    let file = file.as_ref().map(|file| format!("/{file}")).unwrap_or_default();
    let raw_id = raw_id.as_ref().map(|id| format!("  {id}")).unwrap_or_default();
    format!("{dataset}{file}{raw_id}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sluicegate_lake::memory::Memory;

    use super::*;

    const RAW_ID: &str = "20130102T030405Z-0123456789abcdef0123456789abcdef";

    fn stage(dataset: &str, n: usize) -> Outgoing {
        let body = json!({"v": 1, "dataset": dataset, "source": format!("{n}.csv"), "raw_id": RAW_ID, "epoch": 0,
            "reason": "fresh", "hop": 0});
        Outgoing { body: body.to_string(), group: dataset.to_owned() }
    }

    fn choice(ids: &[&str], dataset: Option<&str>, max: usize) -> Choice {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let dataset = dataset.map(|name| name.parse().unwrap());
        Choice { work: Work::Stage, ids, dataset, max }
    }

    async fn sent(messages: &[Outgoing]) -> (Memory, impl Queue + use<>) {
        let cloud = Memory::default();
        let dead = cloud.queue("dead");
        dead.send(messages).await.unwrap();
        (cloud, dead)
    }

    #[tokio::test]
    async fn what_is_looked_at_is_there_afterwards() {
        let messages: Vec<_> = (0..25).map(|n| stage("a", n)).collect();
        let (_cloud, dead) = sent(&messages).await;
        let seen: BTreeSet<_> =
            peek(&dead, 1000).await.unwrap().into_iter().map(|m| m.body).collect();
        assert_eq!(seen, messages.into_iter().map(|m| m.body).collect());
        let depth = dead.depth().await.unwrap();
        assert_eq!((depth.waiting, depth.in_flight), (25, 0));
        assert_eq!(peek(&dead, 7).await.unwrap().len(), 7);
    }

    #[tokio::test]
    async fn a_redrive_moves_what_is_meant_and_no_more() {
        let messages: Vec<_> = (0..12).flat_map(|n| [stage("a", n), stage("b", n)]).collect();
        let (cloud, dead) = sent(&messages).await;
        let to = cloud.queue("stage");
        let act = async |message: &Received| {
            to.send(&[Outgoing { body: message.body.clone(), group: "g".into() }]).await?;
            dead.delete(&message.receipt).await
        };
        let taken = take(&dead, &choice(&[], Some("b"), 5), act).await.unwrap();
        assert_eq!(taken, Taken { done: 5, left: 19 });
        let [first, ..] = &peek(&dead, 1000).await.unwrap()[..] else { panic!("empty") };
        let one = choice(&[&first.id], None, 1000);
        assert_eq!(take(&dead, &one, act).await.unwrap(), Taken { done: 1, left: 18 });
        assert_eq!(take(&dead, &one, act).await.unwrap(), Taken { done: 0, left: 18 });
        assert_eq!(take(&dead, &choice(&[], None, 1000), act).await.unwrap().left, 0);
        let moved: BTreeSet<_> = to.drain().into_iter().collect();
        assert_eq!(moved, messages.into_iter().map(|m| m.body).collect());
    }

    #[tokio::test]
    async fn what_cannot_be_redriven_stays() {
        let (_cloud, dead) = sent(&[stage("a", 1), stage("a", 2)]).await;
        let refuse = async |_: &Received| Err(QueueError::Denied { reason: "no".to_owned() });
        assert!(take(&dead, &choice(&[], None, 1000), refuse).await.is_err());
        assert_eq!(dead.depth().await.unwrap().waiting, 2);
    }

    #[tokio::test]
    async fn a_reason_is_what_the_function_would_find() {
        let cloud = Memory::default();
        let lake = cloud.bucket("lake");
        let told = async |work, body: &str| {
            let message =
                Received { id: "m1".into(), body: body.into(), receipt: "r".into(), receives: 17 };
            letter(&lake, work, "gate", &message).await
        };
        let unread = told(Work::Stage, "{\"v\": 1}").await;
        assert!(unread.reason.starts_with("message cannot be read: missing field"), "{unread:?}");
        assert_eq!((unread.dataset, unread.next.contains("dlq drop stage m1")), (None, true));
        let body = stage("a", 1).body;
        assert!(told(Work::Stage, &body).await.reason.contains("a has no contract"));
        let pointer = json!({"v": 1, "sequence": 2, "version": "1.1.0", "name": "1.1.0"});
        lake.upload("contracts/a/current.json", pointer.to_string());
        let missing = told(Work::Stage, &body).await;
        assert!(missing.reason.contains("contracts/a/1.1.0.json"), "{missing:?}");
        assert_eq!(
            (missing.file.as_deref(), missing.raw_id.unwrap().as_str()),
            (Some("1.csv"), RAW_ID)
        );
        assert!(missing.next.ends_with("sluicegate dlq redrive stage m1"));
        let promote = json!({"v": 1, "dataset": "a", "source": "s", "raw_id": RAW_ID, "order": "e0000000000-c00001-g00001"});
        let promote = told(Work::Promote, &promote.to_string()).await;
        assert!(promote.reason.contains("there is no proposal staging/a/"), "{promote:?}");
    }

    #[tokio::test]
    async fn a_failed_event_says_what_lambda_kept() {
        let object = json!({"key": "a/b+c.csv", "size": 1, "eTag": "e", "versionId": "v", "sequencer": "00"});
        let event = json!({"Records": [{
            "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1", "eventTime": "2013-01-02T03:04:05Z",
            "eventName": "ObjectCreated:Put", "userIdentity": {"principalId": "p"},
            "requestParameters": {"sourceIPAddress": "192.0.2.1"}, "responseElements": {},
            "s3": {"s3SchemaVersion": "1.0", "configurationId": "c", "object": object,
                "bucket": {"name": "inbox", "ownerIdentity": {"principalId": "p"}, "arn": "arn:aws:s3:::inbox"}},
        }]});
        let envelope = json!({"requestContext": {"condition": "RetriesExhausted", "approximateInvokeCount": 3},
            "requestPayload": event, "responsePayload": {"errorType": "HandlerError", "errorMessage": "a/b c.csv is gone"}});
        let message = Received {
            id: "m1".into(),
            body: envelope.to_string(),
            receipt: "r".into(),
            receives: 1,
        };
        let lake = Memory::default().bucket("lake");
        let letter = letter(&lake, Work::LandFailed, "gate", &message).await;
        assert_eq!(letter.reason, "a/b c.csv is gone (tried 3 times)");
        assert_eq!(
            (letter.dataset.unwrap().as_str(), letter.file.as_deref()),
            ("a", Some("b c.csv"))
        );
        assert_eq!(payload_of(Work::LandFailed, &letter.body), event.to_string());
        assert_eq!(payload_of(Work::Stage, "{}"), "{}");
    }
}
