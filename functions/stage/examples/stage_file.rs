//! Stages one local file as the function does, on a lake that is a folder: `stage_file CONTRACT FILE LAKE_FOLDER`.
//!
//! For benchmarks and for looking at what stage makes of a file. Prints the proposal's verdict and files as JSON.

#![allow(clippy::print_stdout, reason = "its answer")]

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use sluicegate_contract::Version;
use sluicegate_lake::disk::Disk;
use sluicegate_lake::memory::Memory;
use sluicegate_lake::{Ambient, Dataset, RawId, Requests, Source, Store, System, keys, list_all};
use sluicegate_runtime::{StageMessage, Summary};
use sluicegate_stage::{Scratch, Stage};

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [contract, file, folder] = arguments.as_slice() else {
        return Err("usage: stage_file CONTRACT FILE LAKE_FOLDER".into());
    };
    let dataset: Dataset = "benchmark".parse()?;
    let source = Source::of_inbox_key("file")?;
    let raw_id = RawId::new(System.now(), "inbox", "benchmark/file", "1");
    let version =
        Version::next(&std::fs::read(contract)?, None, "benchmark")?.ok_or("no version")?;

    let lake = Disk::new(folder);
    put(&lake, &keys::contract(&dataset, &version.version), serde_json::to_vec(&version)?).await?;
    put(
        &lake,
        &keys::contract_pointer(&dataset),
        serde_json::to_vec(&version.pointer(&version.version))?,
    )
    .await?;
    // A link, not a copy: landing copies nothing through us either.
    let raw = folder.join(keys::raw(&dataset, &source, &raw_id));
    std::fs::create_dir_all(raw.parent().ok_or("no folder")?)?;
    std::os::unix::fs::symlink(std::fs::canonicalize(file)?, &raw)?;

    let cloud = Memory::default();
    let stage = Stage {
        lake: Arc::new(lake),
        promote: Arc::new(cloud.queue("promote")),
        ambient: Arc::new(System),
        scratch: Scratch::new(folder, 8 << 30),
        requests: Requests::default(),
    };
    let message = StageMessage::fresh(dataset.clone(), source, raw_id.clone());
    let event = json!({"Records": [{
        "messageId": "1", "body": serde_json::to_string(&message)?, "attributes": {}, "messageAttributes": {},
    }]});
    let mut summary = Summary::new("stage", "benchmark");
    let answer = stage.handle(event, &mut summary).await?;
    if answer != json!({"batchItemFailures": []}) {
        return Err(summary.line(System.now(), 0, &[].into()).into());
    }
    for object in list_all(&*stage.lake, &keys::proposals(&dataset, &raw_id)).await? {
        let proposal: serde_json::Value =
            serde_json::from_slice(&stage.lake.get(&object.key).await?.1)?;
        let files = proposal["files"].as_array().map_or(0, Vec::len);
        let bytes: u64 = proposal["files"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|f| f["bytes"].as_u64())
            .sum();
        println!("{}", json!({"verdict": proposal["verdict"], "files": files, "bytes": bytes}));
    }
    Ok(())
}

async fn put(lake: &Disk, key: &str, bytes: Vec<u8>) -> Result<(), Failure> {
    Ok(lake.create(key, bytes.into(), &[].into()).await?)
}
