//! The whole pipeline on a lake that is a folder: `local_lake [--stage-only] FOLDER CONTRACT DATASET FILE[@LANDED]…`.
//!
//! Makes CONTRACT the dataset's current one unless it is, then takes one file after the other through stage and promote, and
//! prints a JSON line for each: its raw id, the key of its proposal, the requests made, its state, verdict and audits.
//! LANDED is when a file lands, such as `2013-01-02T03:04:05Z`, and the clock stands there while it is worked on; by default
//! it is the present. State stays in FOLDER from call to call. Files are linked into `raw/`, not copied, as landing moves no
//! bytes through us either: they have to stay where they are.
//!
//! With `--stage-only` nothing is promoted or read back: what is staged is no history for what comes after it.

#![allow(clippy::print_stdout, reason = "its answer")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use sluicegate_contract::Version;
use sluicegate_lake::disk::Disk;
use sluicegate_lake::memory::Memory;
use sluicegate_lake::{
    Ambient, Body, Dataset, Expected, RawId, Requests, Source, Store, System, Usage, keys, list_all,
};
use sluicegate_runtime::cost::Meter;
use sluicegate_runtime::{StageMessage, Summary, outgoing};
use sluicegate_table::{Proposal, View, current_contract};
use sluicegate_tests::{World, sqs_event};

type Failure = Box<dyn std::error::Error>;

const USAGE: &str = "usage: local_lake [--stage-only] FOLDER CONTRACT DATASET FILE[@LANDED]…";

/// One dataset of a lake that is a folder.
struct Local {
    world: World,
    folder: PathBuf,
    lake: Arc<Disk>,
    dataset: Dataset,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let promotes = arguments.first().is_none_or(|first| first != "--stage-only");
    arguments.drain(..usize::from(!promotes));
    let [folder, contract, dataset, files @ ..] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    std::fs::create_dir_all(folder)?;
    let folder = std::fs::canonicalize(folder)?;
    let (seed, _) = System.uuid().as_u64_pair();
    let requests = Requests::default();
    let lake = Arc::new(Disk::new(&folder).counting(requests.clone()));
    let cloud = Memory::default();
    let queue = |name: &str| Arc::new(cloud.queue(name)) as _;
    let mut world = World::over(cloud.clone(), lake.clone(), queue, seed);
    world.stage.meter.requests = requests;
    let local = Local { world, folder, lake, dataset: dataset.parse()? };
    local.agree(contract.as_ref()).await?;
    for file in files {
        println!("{}", local.take(file, promotes).await?);
    }
    Ok(())
}

impl Local {
    /// Makes a contract the current one, unless it is.
    async fn agree(&self, contract: &Path) -> Result<(), Failure> {
        let (tag, previous) = match current_contract(&*self.lake, &self.dataset).await? {
            Some((tag, version)) => (Expected::Tag(tag), Some(version)),
            None => (Expected::Nothing, None),
        };
        let Some(next) = Version::next(&std::fs::read(contract)?, previous.as_ref(), "local")?
        else {
            return Ok(());
        };
        let key = keys::contract(&self.dataset, &next.version);
        self.lake.create(&key, Body::from(serde_json::to_vec(&next)?), &[].into()).await?;
        let pointer = serde_json::to_vec(&next.pointer(&next.version))?;
        let key = keys::contract_pointer(&self.dataset);
        Ok(self.lake.swap(&key, pointer.into(), &tag, &[].into()).await?)
    }

    /// Takes a file through the pipeline; answers with what became of it.
    async fn take(&self, file: &str, promotes: bool) -> Result<Value, Failure> {
        let landed = file.rsplit_once('@').and_then(|(file, at)| Some((file, at.parse().ok()?)));
        let (file, landed): (&str, Timestamp) = landed.unwrap_or((file, System.now()));
        let now = self.world.ambient.now();
        self.world.wait(landed.as_second() - now.as_second());
        let name = Path::new(file).file_name().unwrap_or_default().to_string_lossy();
        let source = Source::of_inbox_key(&name)?;
        let raw_id = RawId::new(landed, "inbox", &format!("{}/{name}", self.dataset), "1");
        let raw = self.folder.join(keys::raw(&self.dataset, &source, &raw_id));
        std::fs::create_dir_all(raw.parent().unwrap_or(&self.folder))?;
        std::os::unix::fs::symlink(std::fs::canonicalize(file)?, &raw)?;

        let World { stage, promote, .. } = &self.world;
        let message = StageMessage::fresh(self.dataset.clone(), source.clone(), raw_id.clone());
        let event = sqs_event(&[outgoing(&self.dataset, &message)?.body]);
        stage.meter.requests.take();
        let mut summary = Summary::new("stage", "local");
        let answer = stage.handle(event, &mut summary).await?;
        all_went_well(&answer, &summary, &stage.meter)?;
        let staging = stage.meter.requests.take();
        let objects = list_all(&*self.lake, &keys::proposals(&self.dataset, &raw_id)).await?;
        let proposals = objects.iter().filter(|object| object.key.ends_with("/proposal.json"));
        let key = proposals.map(|object| object.key.as_str()).next_back().ok_or("no proposal")?;
        let mut line = json!({"source": source, "raw_id": raw_id, "proposal": key});
        line["requests"] = json!({"stage": staging});
        let event = sqs_event(&self.world.queue("promote").drain());
        if !promotes {
            return Ok(line);
        }
        stage.meter.requests.take();
        let mut summary = Summary::new("promote", "local");
        let answer = promote.handle(event, &mut summary).await?;
        all_went_well(&answer, &summary, &stage.meter)?;
        line["requests"]["promote"] = json!(stage.meter.requests.take());
        let view = View::read(&*self.lake, &self.dataset).await?;
        let proposal: Proposal = serde_json::from_slice(&self.lake.get(key).await?.1)?;
        line["state"] = json!(view.ledger.records.get(&raw_id).map(|record| record.state));
        line["order"] = json!(proposal.order);
        line["verdict"] = json!(proposal.verdict);
        line["audits"] = json!(proposal.audits);
        Ok(line)
    }
}

fn all_went_well(answer: &Value, summary: &Summary, meter: &Meter) -> Result<(), Failure> {
    if *answer == json!({"batchItemFailures": []}) {
        return Ok(());
    }
    Err(summary.line(System.now(), &Usage::default(), &meter.prices).into())
}
