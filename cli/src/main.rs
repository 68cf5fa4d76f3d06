//! `sluicegate`: contracts and files on a laptop, and the state of a lake, on AWS or on an emulator.
//!
//! Exit codes: 0 all is well, 1 something is held or refused, 2 it cannot be read or the call is wrong.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks on both")]

mod check;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sluicegate_contract::Contract;

#[derive(Parser)]
#[command(
    name = "sluicegate",
    version,
    about = "Write, audit, publish: a gate in front of a data lake"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say what stage would say of files: publish, hold or reject
    Check {
        /// The contract
        #[arg(long)]
        contract: PathBuf,
        /// Print JSON, one line a file
        #[arg(long)]
        json: bool,
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Work with contracts
    Contract {
        #[command(subcommand)]
        command: ContractCommand,
    },
    /// Show what has become of a dataset's files
    Status {
        dataset: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The lake bucket
        #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
        lake: String,
    },
}

#[derive(Subcommand)]
enum ContractCommand {
    /// Say everything that is wrong with a contract
    Lint { contract: PathBuf },
}

/// What ended a command early.
type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Check { contract, json, files } => check::run(&contract, json, &files),
        Command::Contract { command: ContractCommand::Lint { contract } } => lint(&contract),
        Command::Status { dataset, json, lake } => status::run(&dataset, json, &lake).await,
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("sluicegate: {error}");
        ExitCode::from(2)
    })
}

fn lint(path: &std::path::Path) -> Result<ExitCode, Failure> {
    let document = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    match Contract::parse(&document) {
        Ok(contract) => {
            let columns = contract.fields.len();
            println!("{}: version {}, {columns} columns", path.display(), contract.version);
            Ok(ExitCode::SUCCESS)
        }
        Err(findings) => {
            println!("{findings}");
            Ok(ExitCode::from(1))
        }
    }
}
