//! `sluicegate`: contracts and files on a laptop, and the state of a lake, on AWS or on an emulator.
//!
//! Exit codes: 0 all is well, 1 something is held or refused, 2 it cannot be read or the call is wrong.

#![allow(clippy::print_stderr, reason = "a command line speaks on both")]

mod changes;
mod check;
mod contract;
mod cost;
mod dlq;
mod held;
mod input;
mod junit;
mod out;
mod profile;
mod progress;
mod replay;
mod snapshot;
mod status;
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Say what must be computed again: what changed since a snapshot, by partition
    Changes(changes::Arguments),
    /// Say what stage would say of files: publish, hold or reject
    Check(check::Arguments),
    /// Work with contracts
    Contract {
        #[command(subcommand)]
        command: contract::Command,
    },
    /// Show what a dataset's stagings cost, and what keeping it does
    Cost {
        dataset: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The lake bucket
        #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
        lake: String,
    },
    /// Look at messages that were given up, have them tried again, or drop them
    Dlq {
        #[command(subcommand)]
        command: dlq::Command,
    },
    /// Look at held files, and release or reject them
    Held {
        #[command(subcommand)]
        command: held::Command,
    },
    /// Show what a dataset's published rows look like, column by column
    Profile {
        dataset: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The lake bucket
        #[arg(long, env = "SLUICEGATE_LAKE_BUCKET")]
        lake: String,
    },
    /// Stage raw objects again, planned and priced before
    Replay {
        #[command(subcommand)]
        command: replay::Command,
    },
    /// Print what is known of one staged file, whatever its verdict
    Report(held::Report),
    /// Look at a table's past, restore an older state, and let go of what is old
    Snapshot {
        #[command(subcommand)]
        command: snapshot::Command,
    },
    /// Show what has become of a dataset's files, or of all datasets'
    Status(status::Arguments),
    /// Tell one file's whole story, and what to do next
    Why(why::Arguments),
}

/// What ended a command early.
type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Changes(arguments) => changes::run(&arguments).await,
        Command::Check(arguments) => check::run(&arguments),
        Command::Contract { command } => contract::run(command).await,
        Command::Cost { dataset, json, lake } => cost::run(&dataset, json, &lake).await,
        Command::Dlq { command } => dlq::run(command).await,
        Command::Held { command } => held::run(command).await,
        Command::Replay { command } => replay::run(command).await,
        Command::Report(arguments) => held::report(&arguments).await,
        Command::Profile { dataset, json, lake } => profile::run(&dataset, json, &lake).await,
        Command::Snapshot { command } => snapshot::run(command).await,
        Command::Why(arguments) => why::run(&arguments).await,
        Command::Status(arguments) => status::run(&arguments).await,
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("sluicegate: {error}");
        ExitCode::from(2)
    })
}
