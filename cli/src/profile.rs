//! `sluicegate profile`: what a dataset's published rows look like, made of its files' profiles. No data is read.

use std::pin::pin;
use std::process::ExitCode;

use futures::TryStreamExt;
use serde::Serialize;
use sluicegate_audit::profile::{merge, types};
use sluicegate_contract::profile::Profile;
use sluicegate_lake::aws::Clients;
use sluicegate_lake::{Dataset, Store};
use sluicegate_table::history::Past;
use sluicegate_table::report::visible;
use sluicegate_table::{State, View, current_contract};

use crate::Failure;
use crate::out::say;

/// Profiles that are merged at once: all of a dataset's would be much to hold.
const TOGETHER: usize = 32;

#[derive(Serialize)]
struct Merged {
    dataset: Dataset,
    files: u64,
    /// Published files whose proposals have no profile, as those of older versions.
    without: u64,
    profile: Profile,
}

pub(crate) async fn run(dataset: &str, json: bool, lake: &str) -> Result<ExitCode, Failure> {
    let dataset: Dataset = dataset.parse()?;
    let store = Clients::from_env().await.bucket(lake);
    let merged = read(&store, &dataset).await?;
    if json {
        say!("{}", serde_json::to_string(&merged)?);
    } else {
        print(&merged);
    }
    Ok(ExitCode::SUCCESS)
}

async fn read(store: &dyn Store, dataset: &Dataset) -> Result<Merged, Failure> {
    let Some((_, version)) = current_contract(store, dataset).await? else {
        return Err(format!("{dataset} has no contract").into());
    };
    let types = types(&version.contract()?);
    let view = View::open(store, dataset).await?;
    let mut past = Past::of(view.clone());
    let (mut files, mut without, mut profile) = (0, 0, Profile::default());
    let mut waiting = Vec::new();
    let mut pages = pin!(view.all_records(store, dataset));
    while let Some(records) = pages.try_next().await? {
        for record in records.iter().filter(|r| r.state == State::Published) {
            files += 1;
            match past.profile(store, dataset, record).await? {
                Some(profile) => waiting.push(profile),
                None => without += 1,
            }
            if waiting.len() >= TOGETHER {
                let all: Vec<&Profile> = std::iter::once(&profile).chain(&waiting).collect();
                profile = merge(&all, &types);
                waiting.clear();
            }
        }
    }
    let all: Vec<&Profile> = std::iter::once(&profile).chain(&waiting).collect();
    let profile = merge(&all, &types);
    Ok(Merged { files, without, profile, dataset: dataset.clone() })
}

fn print(merged: &Merged) {
    let Merged { dataset, files, without, profile } = merged;
    say!("{dataset}: {} rows in {files} files", profile.rows);
    if *without > 0 {
        say!("{without} of them have no profile: replay them to have one");
    }
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    let width = profile.columns.iter().map(|c| c.path.chars().count()).max().unwrap_or_default();
    say!(
        "{:<width$}  {:>12} {:>10} {:>10}  least … greatest, mean, most frequent",
        "",
        "values",
        "nulls",
        "distinct"
    );
    for column in &profile.columns {
        let about = if column.distinct.error > 0.0 { "~" } else { "" };
        let distinct = format!("{about}{:.0}", column.distinct.estimate);
        let mut said = vec![format!("{} … {}", of(&column.min), of(&column.max))];
        said.extend(column.mean.map(|mean| format!("{mean:.4}")));
        said.extend(
            column.top.values.first().map(|top| format!("{:?} × {}", top.value, top.count)),
        );
        let said = said.join(", ").escape_debug().to_string();
        say!(
            "{:<width$}  {:>12} {:>10} {distinct:>10}  {said}",
            visible(&column.path),
            column.values,
            column.nulls
        );
    }
}
