//! `sluicegate snapshot`: the retained snapshots of a table, an older one's state restored, and what goes with age.
//!
//! A rollback says first what it would come to, and is done only once somebody has confirmed it. Whatever is refused (a
//! snapshot that is not retained, a rollback that would change nothing) leaves the table as it is.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use serde::Serialize;
use sluicegate_lake::aws::Clients;
use sluicegate_lake::{Dataset, RawId, Store, System, keys};
use sluicegate_table::View;
use sluicegate_table::changes::PartitionChange;
use sluicegate_table::iceberg::metadata::{Snapshot, TableMetadata};
use sluicegate_table::log::{self, LogError};
use sluicegate_table::retention::{self, Collected, LEAST_GRACE, Retention};
use sluicegate_table::rollback::{self, Request, Restored, RollbackError};

use crate::Failure;
use crate::changes;
use crate::out::{aligned, refused, say};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the snapshots that can be read and restored, the newest first
    List {
        dataset: String,
        /// Print JSON, one line a snapshot
        #[arg(long)]
        json: bool,
        /// The lake bucket
        #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
        lake: String,
    },
    /// Print what one snapshot changed, and how to read the table as of it
    Show {
        dataset: String,
        /// Its number or its id
        which: i64,
        /// Print JSON, with the raw ids
        #[arg(long)]
        json: bool,
        /// The lake bucket
        #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
        lake: String,
    },
    /// Publish an older snapshot's state again, in a new snapshot
    Rollback(Rollback),
    /// Retain fewer snapshots: those that are both old and many can be read and restored no more
    Expire {
        dataset: String,
        /// How many of the newest snapshots are kept whatever their age
        #[arg(long)]
        keep: NonZeroUsize,
        /// Younger snapshots than this are kept as well: P30D, or "30 days"
        #[arg(long, value_parser = duration)]
        older_than: SignedDuration,
        /// The lake bucket
        #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
        lake: String,
    },
    /// Delete the table's objects that nothing leads to any more
    Collect {
        dataset: String,
        /// How long what is not reachable is kept, a day at least: P2D, or "48 hours"
        #[arg(long, value_parser = grace)]
        grace: SignedDuration,
        /// Say what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
        /// The lake bucket
        #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
        lake: String,
    },
}

#[derive(Args)]
pub(crate) struct Rollback {
    dataset: String,
    /// The number or the id of the snapshot to restore
    #[arg(long)]
    to: i64,
    /// Why; whoever looks at the table's history reads it
    #[arg(long)]
    why: String,
    /// Who restores it
    #[arg(long, env = "USER")]
    by: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print JSON, with the raw ids
    #[arg(long)]
    json: bool,
    /// The lake bucket
    #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
    lake: String,
}

/// A snapshot as it is told.
#[derive(Serialize)]
struct Told {
    number: i64,
    id: i64,
    at: Timestamp,
    operation: String,
    files: Sums,
    rows: Sums,
    bytes: Sums,
    /// What made it, if that was no publish.
    #[serde(skip_serializing_if = "Option::is_none")]
    rollback: Option<RolledBack>,
}

#[derive(Serialize)]
struct Sums {
    added: u64,
    removed: u64,
    total: u64,
}

#[derive(Serialize)]
struct RolledBack {
    to: i64,
    by: String,
    why: String,
}

/// A snapshot with what it changed, and where it is.
#[derive(Serialize)]
struct Shown {
    dataset: Dataset,
    #[serde(flatten)]
    told: Told,
    changes: Vec<PartitionChange>,
    /// The metadata that made it the table's present one; none once that is no longer logged.
    metadata: Option<String>,
    duckdb: String,
}

/// What a rollback came to.
#[derive(Serialize)]
struct Done<'a> {
    dataset: &'a Dataset,
    number: i64,
    to: i64,
    withdrawn: &'a BTreeSet<RawId>,
    restored: &'a BTreeSet<RawId>,
    rows_removed: u64,
    rows_added: u64,
}

pub(crate) async fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::List { dataset, json, lake } => {
            let store = Clients::from_env().await.bucket(lake);
            list(&store, &dataset.parse()?, json).await
        }
        Command::Show { dataset, which, json, lake } => {
            let store = Clients::from_env().await.bucket(lake);
            show(&store, dataset.parse()?, which, json).await
        }
        Command::Rollback(arguments) => roll_back(&arguments).await,
        Command::Expire { dataset, keep, older_than, lake } => {
            let store = Clients::from_env().await.bucket(lake);
            let retention = Retention { snapshots: keep.get(), age: older_than };
            expire(&store, &dataset.parse()?, retention).await
        }
        Command::Collect { dataset, grace, dry_run, lake } => {
            let store = Clients::from_env().await.bucket(lake);
            collect(&store, &dataset.parse()?, grace, dry_run).await
        }
    }
}

async fn list(store: &dyn Store, dataset: &Dataset, json: bool) -> Result<ExitCode, Failure> {
    let snapshots = match log::metadata(store, dataset).await {
        Ok(metadata) => metadata.snapshots,
        Err(LogError::NoTable) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let told: Vec<Told> = snapshots.iter().rev().map(Told::of).collect();
    if json {
        for told in &told {
            say!("{}", serde_json::to_string(told)?);
        }
    } else if told.is_empty() {
        say!("nothing is published");
    } else {
        let head = ["number", "id", "time", "operation", "files", "rows", "bytes", "made by"];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(told.iter().map(Told::cells));
        for line in aligned(&rows) {
            say!("{line}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(
    store: &dyn Store,
    dataset: Dataset,
    which: i64,
    json: bool,
) -> Result<ExitCode, Failure> {
    let view = View::open(store, &dataset).await?;
    let Some(metadata) = &view.metadata else {
        return Ok(refused(format_args!("{}", LogError::NoTable)));
    };
    let Some(snapshot) = log::find(metadata, which) else {
        return Ok(refused(format_args!("snapshot {which} is not retained")));
    };
    let present = view.file.as_deref().unwrap_or_default();
    let present = store.uri(&keys::metadata(&dataset, &format!("{present}.metadata.json")));
    let (root, id) = (store.uri(&keys::table(&dataset)), snapshot.snapshot_id);
    let shown = Shown {
        told: Told::of(snapshot),
        changes: log::changes_in(store, &dataset, snapshot).await?.partitions,
        metadata: metadata_file(metadata, present, snapshot.sequence_number),
        duckdb: format!("SELECT * FROM iceberg_scan('{root}', snapshot_from_id = {id});"),
        dataset,
    };
    if json {
        say!("{}", serde_json::to_string(&shown)?);
    } else {
        print(&shown);
    }
    Ok(ExitCode::SUCCESS)
}

/// The metadata file of a number: the present one, or one of those before that are still logged. Each number has one.
fn metadata_file(metadata: &TableMetadata, present: String, number: i64) -> Option<String> {
    let logged = metadata.metadata_log.iter().map(|entry| entry.metadata_file.clone());
    let start = format!("{number:05}-");
    let mut files = std::iter::once(present).chain(logged);
    files.find(|file| file.rsplit('/').next().is_some_and(|name| name.starts_with(&start)))
}

fn print(shown: &Shown) {
    let Shown { dataset, told, changes, metadata, duckdb } = shown;
    say!("{dataset}: snapshot {}, id {}", told.number, told.id);
    let metadata = metadata.as_deref().unwrap_or("no longer logged");
    let facts = [
        ["time", &told.at.to_string()],
        ["made by", &told.made_by()],
        ["operation", &told.operation],
        ["files", &told.files.cell()],
        ["rows", &told.rows.cell()],
        ["bytes", &told.bytes.cell()],
        ["metadata", metadata],
    ];
    for line in aligned(&facts.map(|fact| fact.map(str::to_owned))) {
        say!("  {line}");
    }
    say!("changes:");
    if changes.is_empty() {
        say!("  none: no row came or went");
    }
    for line in changes::lines(changes) {
        say!("  {line}");
    }
    say!("to read it with DuckDB:");
    say!("  {duckdb}");
}

async fn roll_back(arguments: &Rollback) -> Result<ExitCode, Failure> {
    let Rollback { dataset, to, why, by, yes, json, lake } = arguments;
    let dataset: Dataset = dataset.parse()?;
    let (why, by) = (why.trim(), by.trim());
    if why.is_empty() || by.is_empty() {
        return Err("say why, and who restores it".into());
    }
    let store = Clients::from_env().await.bucket(lake);
    let to = match log::metadata(&store, &dataset).await {
        Ok(metadata) => log::find(&metadata, *to).map_or(*to, |s| s.sequence_number),
        Err(LogError::Commit(error)) => return Err(error.into()),
        Err(error) => return Ok(refused(format_args!("{error}"))),
    };
    let expected = match rollback::preview(&store, &dataset, to).await {
        Ok(expected) => expected,
        Err(error) => return not_rolled_back(error),
    };
    // Not on standard output, which is for what was done.
    eprintln!("{dataset}: snapshot {to} restored would be: {}", extent(&expected));
    if !yes && !confirmed()? {
        say!("nothing was changed");
        return Ok(ExitCode::from(1));
    }
    let request = Request { to, by, why };
    match rollback::roll_back(&store, &System, &dataset, &request).await {
        Ok(restored) => told(&dataset, to, &restored, *json),
        Err(error) => not_rolled_back(error),
    }
}

fn not_rolled_back(error: RollbackError) -> Result<ExitCode, Failure> {
    match error {
        RollbackError::Commit(error) => Err(error.into()),
        refusal => Ok(refused(format_args!("{refusal}"))),
    }
}

/// Asks the person at the terminal.
fn confirmed() -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err("nobody is here to confirm it: say --yes".into());
    }
    eprint!("Do it? [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn told(dataset: &Dataset, to: i64, done: &Restored, json: bool) -> Result<ExitCode, Failure> {
    if json {
        let Restored { number, withdrawn, restored, rows_removed, rows_added, .. } = done;
        let (rows_removed, rows_added) = (*rows_removed, *rows_added);
        let done =
            Done { dataset, number: *number, to, withdrawn, restored, rows_removed, rows_added };
        say!("{}", serde_json::to_string(&done)?);
        return Ok(ExitCode::SUCCESS);
    }
    say!("{dataset}: snapshot {} publishes what snapshot {to} did", done.number);
    say!("{}", extent(done));
    if !done.withdrawn.is_empty() {
        say!("A replay brings back what is withdrawn: `sluicegate status {dataset}` lists it.");
    }
    Ok(ExitCode::SUCCESS)
}

/// How much a rollback changes.
fn extent(restored: &Restored) -> String {
    let Restored { withdrawn, restored, rows_removed, rows_added, .. } = restored;
    let (withdrawn, restored) = (withdrawn.len(), restored.len());
    format!(
        "raw objects: {withdrawn} withdrawn, {restored} restored; rows +{rows_added} -{rows_removed}"
    )
}

async fn expire(
    store: &dyn Store,
    dataset: &Dataset,
    retention: Retention,
) -> Result<ExitCode, Failure> {
    let expired = retention::expire(store, &System, dataset, retention).await?.snapshots;
    match (expired.as_slice(), expired.len()) {
        ([], _) => say!("{dataset}: nothing to expire"),
        ([only], _) => say!("{dataset}: snapshot {only} is no longer retained"),
        ([first, .., last], count) => {
            say!("{dataset}: {count} snapshots, {first} to {last}, are no longer retained");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn collect(
    store: &dyn Store,
    dataset: &Dataset,
    grace: SignedDuration,
    dry_run: bool,
) -> Result<ExitCode, Failure> {
    let (collected, how) = if dry_run {
        (retention::collectable(store, &System, dataset, grace).await?, "would be ")
    } else {
        (retention::collect(store, &System, dataset, grace).await?, "")
    };
    let Collected { metadata_files, data_files, bytes, closed } = collected;
    if metadata_files + data_files + closed == 0 {
        say!("{dataset}: nothing to collect");
        return Ok(ExitCode::SUCCESS);
    }
    say!(
        "{dataset}: {how}deleted: {metadata_files} metadata files, {data_files} data files, {bytes} bytes"
    );
    if closed > 0 {
        say!("{how}closed: {closed} proposals; their files go in a collection {grace:#} later");
    }
    Ok(ExitCode::SUCCESS)
}

impl Told {
    fn of(snapshot: &Snapshot) -> Self {
        let text = |key: &str| snapshot.summary.get(key).cloned().unwrap_or_default();
        let count = |key: &str| text(key).parse().unwrap_or_default();
        let sums = |added: &str, removed: &str, total: &str| Sums {
            added: count(added),
            removed: count(removed),
            total: count(total),
        };
        let to = snapshot.summary.get(rollback::TO).and_then(|to| to.parse().ok());
        Self {
            number: snapshot.sequence_number,
            id: snapshot.snapshot_id,
            at: Timestamp::from_millisecond(snapshot.timestamp_ms).unwrap_or_default(),
            operation: text("operation"),
            files: sums("added-data-files", "deleted-data-files", "total-data-files"),
            rows: sums("added-records", "deleted-records", "total-records"),
            bytes: sums("added-files-size", "removed-files-size", "total-files-size"),
            rollback: to.map(|to| RolledBack {
                to,
                by: text(rollback::BY),
                why: text(rollback::WHY),
            }),
        }
    }

    fn made_by(&self) -> String {
        match &self.rollback {
            Some(RolledBack { to, by, why }) => format!("rollback to {to} by {by}: {why}"),
            None => "publish".to_owned(),
        }
    }

    fn cells(&self) -> [String; 8] {
        [
            self.number.to_string(),
            self.id.to_string(),
            self.at.to_string(),
            self.operation.clone(),
            self.files.cell(),
            self.rows.cell(),
            self.bytes.cell(),
            self.made_by(),
        ]
    }
}

impl Sums {
    fn cell(&self) -> String {
        let Self { added, removed, total } = self;
        format!("{total} (+{added} -{removed})")
    }
}

/// A duration that is not negative, ISO 8601 or friendly; a day has 24 hours.
fn duration(text: &str) -> Result<SignedDuration, String> {
    let span: Span = text.parse().map_err(|e: jiff::Error| e.to_string())?;
    let days = SpanRelativeTo::days_are_24_hours();
    let duration = span.to_duration(days).map_err(|e| e.to_string())?;
    if duration.is_negative() {
        return Err("it is negative".to_owned());
    }
    Ok(duration)
}

/// As long as a collection must wait at least.
fn grace(text: &str) -> Result<SignedDuration, String> {
    let grace = duration(text)?;
    if grace < LEAST_GRACE {
        return Err(
            "it must be a day at least: whoever reads or writes now may need them".to_owned()
        );
    }
    Ok(grace)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn snapshot(summary: &[(&str, &str)]) -> Snapshot {
        let summary = summary.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Snapshot {
            snapshot_id: 77,
            parent_snapshot_id: None,
            sequence_number: 3,
            timestamp_ms: 1500,
            manifest_list: String::new(),
            summary: summary.collect::<BTreeMap<_, _>>(),
            schema_id: None,
        }
    }

    #[test]
    fn a_snapshot_says_what_made_it() {
        let publish = [
            ("operation", "append"),
            ("added-data-files", "2"),
            ("total-data-files", "5"),
            ("added-records", "20"),
            ("deleted-records", "3"),
            ("total-records", "50"),
            ("total-files-size", "999"),
        ];
        let told = Told::of(&snapshot(&publish));
        assert_eq!(
            told.cells().join("|"),
            "3|77|1970-01-01T00:00:01.5Z|append|5 (+2 -0)|50 (+20 -3)|999 (+0 -0)|publish"
        );
        let rolled = [
            ("sluicegate.rollback-to", "1"),
            ("sluicegate.rollback-by", "ann"),
            ("sluicegate.rollback-why", "a bad deploy"),
        ];
        assert_eq!(Told::of(&snapshot(&rolled)).made_by(), "rollback to 1 by ann: a bad deploy");
    }

    #[test]
    fn durations_are_iso_8601_or_friendly_and_days_have_24_hours() {
        let hours = |hours| Ok(SignedDuration::from_hours(hours));
        for text in ["P2D", "PT48H", "2 days", "48h"] {
            assert_eq!(duration(text), hours(48), "{text}");
        }
        assert_eq!(duration("0s"), hours(0));
        for text in ["", "2", "P1M", "-P1D", "yesterday"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(grace("1d"), hours(24));
        assert!(grace("23h 59m").is_err());
    }
}
