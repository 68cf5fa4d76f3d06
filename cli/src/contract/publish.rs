//! Publishing a contract: as data is, by an upload to the inbox. Whatever the lake would refuse is said before.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use sluicegate_contract::{Version, VersionError};
use sluicegate_lake::aws::Clients;
use sluicegate_lake::cas::{Creation, Swap, Writer};
use sluicegate_lake::{Dataset, Expected, Store, System, keys, list_all};
use sluicegate_table::current_contract;

use crate::out::say;
use crate::{Failure, input};

#[derive(Args)]
pub(crate) struct Arguments {
    contract: PathBuf,
    #[arg(long)]
    dataset: String,
    /// The inbox bucket
    #[arg(long, env = "SLUICEGATE_INBOX_BUCKET")]
    inbox: String,
    /// The lake bucket
    #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
    lake: String,
    /// Seconds to wait for the contract to become current; 0 does not wait
    #[arg(long, default_value_t = 60)]
    wait: u64,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let dataset: Dataset = arguments.dataset.parse()?;
    let document = input::document(&arguments.contract)?;
    let clients = Clients::from_env().await;
    let (inbox, lake) = (clients.bucket(&arguments.inbox), clients.bucket(&arguments.lake));
    let current = current_contract(&lake, &dataset).await?.map(|(_, version)| version);
    let next = match Version::next(&document, current.as_ref(), "local") {
        Ok(Some(next)) => next,
        Ok(None) => {
            say!("{dataset}: this very contract is current already");
            return Ok(ExitCode::SUCCESS);
        }
        Err(error @ VersionError::Lint(_)) => {
            say!("{}:\n{error}", arguments.contract.display());
            return Ok(ExitCode::from(1));
        }
        Err(error) => {
            say!("refused: {error}");
            return Ok(ExitCode::from(1));
        }
    };
    let refused = refusals(&lake, &dataset).await?;
    upload(&inbox, &keys::contract_inbox(&dataset), document).await?;
    say!("{dataset}: version {} is uploaded", next.version);
    for _ in 0..arguments.wait {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let current = current_contract(&lake, &dataset).await?.map(|(_, version)| version);
        if current.is_some_and(|current| current.says(&next.document)) {
            say!("{dataset}: version {} is current", next.version);
            return Ok(ExitCode::SUCCESS);
        }
        let new = refusals(&lake, &dataset).await?;
        if let Some(key) = new.iter().find(|key| !refused.contains(key)) {
            let (_, report) = lake.get(key).await?;
            say!("refused: {}", String::from_utf8_lossy(&report));
            return Ok(ExitCode::from(1));
        }
    }
    if arguments.wait > 0 {
        say!("{dataset}: not current yet; `sluicegate status {dataset}` will show it");
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}

async fn refusals(lake: &dyn Store, dataset: &Dataset) -> Result<Vec<String>, Failure> {
    let listed = list_all(lake, &keys::contract_refusals(dataset)).await?;
    Ok(listed.into_iter().map(|object| object.key).collect())
}

/// Puts the document under its name, whether one is there or not.
async fn upload(inbox: &dyn Store, key: &str, document: Vec<u8>) -> Result<(), Failure> {
    let writer = Writer::new(inbox, &System);
    if let Creation::Made = writer.create(key, document.clone()).await? {
        return Ok(());
    }
    let there = inbox.head(key, None).await?;
    match writer.swap(key, document.into(), &Expected::Tag(there.etag)).await? {
        Swap::Done => Ok(()),
        Swap::Lost => Err(format!("{key} is being uploaded by somebody else").into()),
    }
}
