//! Contracts drafted from files, and amended by what files have beyond them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;
use sluicegate_audit::{Accepted, BadRow, Rules, Sink, audit, unpacked};
use sluicegate_contract::diff::diff;
use sluicegate_contract::infer::{Amendment, Draft, SourceFormat, amend};
use sluicegate_contract::{Contract, Datum};
use sluicegate_lake::aws::Clients;
use sluicegate_lake::{Ambient, Dataset, System, keys, list_all};
use sluicegate_table::{Proposal, current_contract};

use crate::out::say;
use crate::{Failure, input};

#[derive(Args)]
pub(crate) struct Infer {
    /// The dataset's name
    #[arg(long)]
    dataset: String,
    /// Cells that stand for null; proposed from the data otherwise
    #[arg(long)]
    null_token: Vec<String>,
    /// Rows that are read of each file
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// CSV with a header, or JSON Lines; plain, gzip or zstd
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Suggest {
    /// The contract to amend, by the files
    #[arg(long, required_unless_present = "dataset")]
    contract: Option<PathBuf>,
    /// The dataset whose contract to amend, by what has been staged of it
    #[arg(long, conflicts_with = "contract", requires = "lake")]
    dataset: Option<String>,
    /// The lake bucket
    #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
    lake: Option<String>,
    /// Print the amended contract alone
    #[arg(long)]
    document: bool,
    files: Vec<PathBuf>,
}

/// Bytes of a first line that are looked at for its format.
const HEAD: usize = 64 << 10;

pub(crate) fn infer(arguments: &Infer) -> Result<ExitCode, Failure> {
    if arguments.files.iter().any(|file| file == Path::new("-")) {
        return Err("a draft reads its files more than once: say a file instead of -".into());
    }
    let format = format_of(arguments)?;
    let mut draft = drafted(arguments, format.clone())?;
    if let (SourceFormat::Csv { delimiter, .. }, true) = (&format, arguments.null_token.is_empty())
    {
        // A token that is null makes another type of its column: the files are read again with it.
        let null_tokens = draft.null_tokens();
        draft = drafted(arguments, SourceFormat::Csv { delimiter: *delimiter, null_tokens })?;
    }
    let rows = draft.rows();
    if rows == 0 {
        return Err("the files have no rows to draft from".into());
    }
    let document = draft.finish();
    say!("{document:#}");
    eprintln!("drafted from {rows} rows: name the team, say what the columns mean, then lint");
    Ok(ExitCode::SUCCESS)
}

fn format_of(arguments: &Infer) -> Result<SourceFormat, Failure> {
    let first = arguments.files.first().ok_or("no file")?;
    let mut reader = BufReader::with_capacity(HEAD, unpacked(input::open(first)?)?);
    let head = reader.fill_buf()?;
    let line = head.split(|b| *b == b'\n').next().unwrap_or_default();
    if head.starts_with(b"PAR1") {
        return Ok(SourceFormat::Parquet);
    }
    if line.trim_ascii_start().first() == Some(&b'{') {
        return Ok(SourceFormat::Jsonl);
    }
    let count = |delimiter: u8| line.iter().filter(|b| **b == delimiter).count();
    let delimiter = [b',', b';', b'\t', b'|'].into_iter().rev().max_by_key(|d| count(*d));
    let null_tokens = match arguments.null_token.as_slice() {
        [] => vec![String::new()],
        tokens => tokens.to_vec(),
    };
    Ok(SourceFormat::Csv { delimiter: delimiter.unwrap_or(b','), null_tokens })
}

fn drafted(arguments: &Infer, format: SourceFormat) -> Result<Draft, Failure> {
    let mut draft = Draft::new(&arguments.dataset, format.clone());
    for path in &arguments.files {
        let reader = unpacked(input::open(path)?)?;
        let read = match &format {
            SourceFormat::Csv { delimiter, .. } => {
                cells(reader, *delimiter, arguments.rows, &mut draft)
            }
            SourceFormat::Jsonl => lines(reader, arguments.rows, &mut draft),
            SourceFormat::Parquet => Err("a draft is not made from Parquet".into()),
        };
        read.map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(draft)
}

fn cells(reader: impl Read, delimiter: u8, rows: u64, draft: &mut Draft) -> Result<(), Failure> {
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(reader);
    let header = reader.headers()?.clone();
    let names: Vec<&str> = header.iter().map(|n| n.trim_start_matches('\u{feff}')).collect();
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    if distinct.len() < names.len() {
        return Err("two columns have the same name".into());
    }
    let mut record = csv::StringRecord::new();
    let mut read = 0;
    while read < rows && reader.read_record(&mut record)? {
        if record.len() == names.len() {
            draft.add_cells(&names, &record.iter().collect::<Vec<_>>());
        }
        read += 1;
    }
    Ok(())
}

fn lines(reader: impl Read, rows: u64, draft: &mut Draft) -> Result<(), Failure> {
    let mut reader = BufReader::new(reader);
    let (mut line, mut read) = (String::new(), 0);
    while read < rows && reader.read_line(&mut line)? > 0 {
        if !line.trim().is_empty() {
            let row = Datum::parse(line.trim()).map_err(|e| format!("row {}: {e}", read + 1))?;
            draft.add_row(&row);
            read += 1;
        }
        line.clear();
    }
    Ok(())
}

struct Nowhere;

impl Sink for Nowhere {
    fn accept(&mut self, _: Accepted) -> std::io::Result<()> {
        Ok(())
    }

    fn quarantine(&mut self, _: &[u8], _: &BadRow<'_>) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) async fn suggest(arguments: &Suggest) -> Result<ExitCode, Failure> {
    let (document, amendments) = match (&arguments.contract, &arguments.dataset, &arguments.lake) {
        (Some(contract), ..) => of_files(contract, &arguments.files)?,
        (None, Some(dataset), Some(lake)) => of_lake(&dataset.parse()?, lake).await?,
        _ => return Err("say --contract and files, or --dataset and --lake".into()),
    };
    if amendments.is_empty() {
        eprintln!("there is nothing beyond the contract");
        return Ok(ExitCode::SUCCESS);
    }
    let amended =
        amend(&document, &amendments).ok_or("none of the fields goes with the contract")?;
    if arguments.document {
        say!("{amended:#}");
        return Ok(ExitCode::SUCCESS);
    }
    for a in &amendments {
        say!(
            "{}  {}  in {} rows ({:.1} %), such as {}",
            a.pointer,
            a.schema,
            a.rows,
            a.share * 100.0,
            a.examples.join(", ")
        );
    }
    let parse = |d: &Value| Contract::parse(d.to_string().as_bytes());
    say!("\n{}", diff(&parse(&document)?, &parse(&amended)?));
    say!("\n{}", line_diff(&format!("{document:#}"), &format!("{amended:#}")));
    Ok(ExitCode::SUCCESS)
}

fn of_files(contract: &Path, files: &[PathBuf]) -> Result<(Value, Vec<Amendment>), Failure> {
    let version = input::version(contract)?;
    let now: Timestamp = System.now();
    let rules = Rules::new(version.contract()?, &version, "", now);
    let mut found = Vec::with_capacity(files.len());
    for path in files {
        let audited = audit(input::open(path)?, &rules, &input::scratch(), &mut Nowhere)
            .map_err(|e| format!("{}: {e}", path.display()))?;
        found.push((audited.verdict.coverage().rows_read, audited.amendments));
    }
    Ok((version.document, merged(found)))
}

async fn of_lake(dataset: &Dataset, lake: &str) -> Result<(Value, Vec<Amendment>), Failure> {
    let store = Clients::from_env().await.bucket(lake);
    let current = current_contract(&store, dataset).await?;
    let (_, version) = current.ok_or_else(|| format!("{dataset} has no contract"))?;
    let mut found = Vec::new();
    let staged = list_all(&store, &keys::staging(dataset)).await?;
    for object in staged.iter().filter(|o| o.key.ends_with("/proposal.json")) {
        let (_, bytes) = sluicegate_lake::Store::get(&store, &object.key).await?;
        let proposal: Proposal = serde_json::from_slice(&bytes)?;
        found.push((proposal.verdict.coverage().rows_read, proposal.amendments));
    }
    Ok((version.document, merged(found)))
}

/// The amendments of many files as one: the first file's schema that has a place stands for it.
fn merged(found: Vec<(u64, Vec<Amendment>)>) -> Vec<Amendment> {
    let read: u64 = found.iter().map(|(rows, _)| rows).sum();
    let mut all: BTreeMap<String, Amendment> = BTreeMap::new();
    for amendment in found.into_iter().flat_map(|(_, amendments)| amendments) {
        match all.get_mut(&amendment.pointer) {
            Some(known) => known.rows += amendment.rows,
            None => {
                all.insert(amendment.pointer.clone(), amendment);
            }
        }
    }
    let mut all: Vec<_> = all.into_values().collect();
    for amendment in &mut all {
        #[allow(clippy::cast_precision_loss, reason = "a share is for people")]
        let share = amendment.rows as f64 / read.max(1) as f64;
        amendment.share = share;
    }
    all
}

/// Lines that only the new text has, with one around each; nothing but additions and replacements comes here.
fn line_diff(old: &str, new: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let mut out = Vec::new();
    let mut at = 0;
    for line in new {
        let ahead = old.iter().skip(at).take(3).position(|o| *o == line);
        match ahead {
            Some(skipped) => {
                out.extend(old.iter().skip(at).take(skipped).map(|gone| format!("-{gone}")));
                at += skipped + 1;
                out.push(format!(" {line}"));
            }
            None => out.push(format!("+{line}")),
        }
    }
    let marked: Vec<bool> = out.iter().map(|line| !line.starts_with(' ')).collect();
    let near = |i: usize| (i.saturating_sub(2)..=i + 2).any(|j| marked.get(j) == Some(&true));
    let kept = out.iter().enumerate().filter(|(i, _)| near(*i)).map(|(_, line)| line.as_str());
    kept.collect::<Vec<_>>().join("\n")
}
