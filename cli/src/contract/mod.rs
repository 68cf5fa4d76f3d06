//! `sluicegate contract`: what both sides do with a contract before it is published, and publishing it.

mod draft;
mod publish;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use serde_json::json;
use sluicegate_contract::diff::diff;
use sluicegate_contract::{Contract, export, lock, sample};

use crate::out::say;
use crate::{Failure, input};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Say everything that is wrong with contracts
    Lint {
        #[arg(required = true)]
        contracts: Vec<PathBuf>,
        /// Print JSON, one line a contract
        #[arg(long)]
        json: bool,
    },
    /// Say what changes from one version to another, for whom, and whether it may
    Diff {
        old: PathBuf,
        new: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Draft a first contract from files
    Infer(draft::Infer),
    /// Amend a contract by the fields that files have beyond it
    Suggest(draft::Suggest),
    /// Make rows to test with: good ones, and bad ones that each break a named rule
    Examples {
        contract: PathBuf,
        #[arg(long, default_value_t = 10)]
        valid: usize,
        #[arg(long, default_value_t = 0)]
        invalid: usize,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Print the lock that both sides commit
    Lock { contract: PathBuf },
    /// Hold a contract against a lock
    Verify { contract: PathBuf, lock: PathBuf },
    /// Say a contract in another standard; what cannot be said there is listed on standard error
    Export {
        contract: PathBuf,
        #[arg(long)]
        to: Target,
        /// The dataset's name; the contract's title otherwise
        #[arg(long)]
        dataset: Option<String>,
    },
    /// Upload a contract, and wait for what becomes of it
    Publish(publish::Arguments),
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Target {
    /// Open Data Contract Standard
    Odcs,
    /// dbt sources and models
    Dbt,
    /// A data dictionary
    Markdown,
    /// The table's schema
    Iceberg,
}

pub(crate) async fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Lint { contracts, json } => lint(&contracts, json),
        Command::Diff { old, new, json } => {
            let (old, new) = (input::contract(&old)?, input::contract(&new)?);
            compare(&old, &new, json)
        }
        Command::Infer(arguments) => draft::infer(&arguments),
        Command::Suggest(arguments) => draft::suggest(&arguments).await,
        Command::Examples { contract, valid, invalid, seed } => {
            examples(&input::contract(&contract)?, valid, invalid, seed)
        }
        Command::Lock { contract } => {
            say!("{}", lock::lock(&input::document(&contract)?)?.to_text().trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Command::Verify { contract, lock: path } => {
            let text = String::from_utf8(input::document(&path)?)?;
            match lock::verify(&input::document(&contract)?, &text) {
                Ok(()) => {
                    say!("{}: as locked", contract.display());
                    Ok(ExitCode::SUCCESS)
                }
                Err(error @ lock::LockError::Changed(_)) => {
                    say!("{}: {error}", contract.display());
                    Ok(ExitCode::from(1))
                }
                Err(error) => Err(error.into()),
            }
        }
        Command::Export { contract, to, dataset } => {
            let read = input::contract(&contract)?;
            let dataset = dataset.or_else(|| read.title.clone());
            let dataset = dataset.ok_or("say --dataset: the contract has no title")?;
            let export = match to {
                Target::Odcs => export::odcs(&read, &dataset),
                Target::Dbt => export::dbt(&read, &dataset),
                Target::Markdown => export::markdown(&read, &dataset),
                Target::Iceberg => export::iceberg(&input::version(&contract)?)?,
            };
            say!("{}", export.text.trim_end());
            export.unsaid.iter().for_each(|unsaid| eprintln!("not said: {unsaid}"));
            Ok(ExitCode::SUCCESS)
        }
        Command::Publish(arguments) => publish::run(&arguments).await,
    }
}

fn lint(contracts: &[PathBuf], as_json: bool) -> Result<ExitCode, Failure> {
    let mut refused = false;
    for path in contracts {
        let found = Contract::parse(&input::document(path)?);
        refused |= found.is_err();
        match &found {
            _ if as_json => {
                let findings = found.as_ref().err().map(|f| f.0.clone()).unwrap_or_default();
                say!("{}", json!({"contract": path, "findings": findings}));
            }
            Ok(contract) => {
                let columns = contract.fields.len();
                say!("{}: version {}, {columns} columns", path.display(), contract.version);
            }
            Err(findings) => say!("{}:\n{findings}", path.display()),
        }
    }
    Ok(ExitCode::from(u8::from(refused)))
}

/// Prints a diff; refused if the new version may not follow the old one.
fn compare(old: &Contract, new: &Contract, as_json: bool) -> Result<ExitCode, Failure> {
    let diff = diff(old, new);
    let refusal = diff.permitted(old, new).err();
    if as_json {
        let report = json!({
            "from": old.version,
            "to": new.version,
            "compatibility": diff.compatibility(),
            "changes": diff.changes,
            "refused": refusal.as_ref().map(ToString::to_string),
        });
        say!("{report}");
    } else {
        say!("{diff}");
        refusal.iter().for_each(|refusal| say!("\nrefused: {refusal}"));
    }
    Ok(ExitCode::from(u8::from(refusal.is_some())))
}

fn examples(
    contract: &Contract,
    valid: usize,
    invalid: usize,
    seed: u64,
) -> Result<ExitCode, Failure> {
    let good = sample::valid(contract, seed, valid);
    let bad = sample::invalid(contract, seed, invalid);
    for row in &good {
        say!("{{\"valid\":true,\"row\":{row}}}");
    }
    for bad in &bad {
        let (at, rule) = (json!(bad.at), json!(bad.rule));
        say!("{{\"valid\":false,\"at\":{at},\"rule\":{rule},\"row\":{}}}", bad.row);
    }
    if good.len() < valid || bad.len() < invalid {
        eprintln!("only {} good and {} bad rows could be made", good.len(), bad.len());
    }
    Ok(ExitCode::SUCCESS)
}
