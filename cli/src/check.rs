//! `sluicegate check`: what stage runs, on a file at hand. Nothing is written.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::json;
use sluicegate_audit::{Accepted, Audit, BadRow, Outcome, Rules, Sink, audit};
use sluicegate_contract::Version;
use sluicegate_lake::{Ambient, System};

use crate::Failure;

/// Bad rows that are shown of a file.
const SHOWN: usize = 5;

#[derive(Default)]
struct FirstFaults(Vec<String>);

impl Sink for FirstFaults {
    fn accept(&mut self, _: Accepted) -> io::Result<()> {
        Ok(())
    }

    fn quarantine(&mut self, _: &[u8], row: &BadRow<'_>) -> io::Result<()> {
        if self.0.len() < SHOWN {
            let faults = row.faults.iter().map(|f| {
                let place = f.column.as_deref().unwrap_or("row");
                format!("{place} {}: {}", f.rule, f.reason)
            });
            let faults = faults.collect::<Vec<_>>().join("; ");
            self.0.push(format!("row {}: {faults}", row.row));
        }
        Ok(())
    }
}

pub(crate) fn run(contract: &Path, json: bool, files: &[PathBuf]) -> Result<ExitCode, Failure> {
    let document = std::fs::read(contract).map_err(|e| format!("{}: {e}", contract.display()))?;
    let version = Version::next(&document, None, "check")
        .map_err(|e| format!("{}:\n{e}", contract.display()))?
        .ok_or("a first version is always new")?;
    let mut worst = 0;
    for path in files {
        let (audited, faults) = check(&version, path)?;
        let verdict = &audited.verdict;
        worst = worst.max(match verdict.outcome() {
            Outcome::Publish => 0,
            Outcome::Hold => 1,
            Outcome::Reject => 2,
        });
        if json {
            println!("{}", json!({"file": path, "audit": audited, "first_bad_rows": faults.0}));
            continue;
        }
        let coverage = verdict.coverage();
        println!(
            "{}: {} ({} rows read, {} accepted, {} quarantined)",
            path.display(),
            word(verdict.outcome()),
            coverage.rows_read,
            coverage.rows_accepted,
            coverage.rows_quarantined
        );
        verdict.reasons().iter().for_each(|reason| println!("  {}", reason.message));
        faults.0.iter().for_each(|fault| println!("  {fault}"));
        if coverage.rows_quarantined > faults.0.len() as u64 {
            println!("  …");
        }
        for amendment in &audited.amendments {
            println!("  not in the contract: {}", amendment.pointer);
        }
    }
    Ok(ExitCode::from(worst))
}

fn check(version: &Version, path: &Path) -> Result<(Audit, FirstFaults), Failure> {
    let file = std::fs::File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    // Rows are held against the present: a file that is checked has not landed yet.
    let now: Timestamp = System.now();
    let rules = Rules::new(version.contract()?, version, "", now);
    let mut faults = FirstFaults::default();
    let audited = audit(file, &rules, &mut faults)?;
    Ok((audited, faults))
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Publish => "publish",
        Outcome::Hold => "HOLD",
        Outcome::Reject => "REJECT",
    }
}
