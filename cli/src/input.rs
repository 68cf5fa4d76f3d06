//! Files that a command reads; `-` is standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sluicegate_audit::Scratch;
use sluicegate_contract::{Contract, Version};

use crate::Failure;

/// A file's bytes as they come.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read + Send>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    Ok(Box::new(File::open(path).map_err(|e| format!("{}: {e}", path.display()))?))
}

/// Room for files that are not read from their beginning: as much as there is.
pub(crate) fn scratch() -> Scratch {
    Scratch { folder: std::env::temp_dir(), limit: u64::MAX }
}

/// A contract's document, as far as one is read at all.
pub(crate) fn document(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    open(path)?
        .take(Contract::SIZE_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(bytes)
}

/// A contract that is right.
pub(crate) fn contract(path: &Path) -> Result<Contract, Failure> {
    let found = Contract::parse(&document(path)?);
    Ok(found.map_err(|findings| format!("{}:\n{findings}", path.display()))?)
}

/// A contract as the first version of a dataset's.
pub(crate) fn version(path: &Path) -> Result<Version, Failure> {
    let version = Version::next(&document(path)?, None, "local");
    let version = version.map_err(|e| format!("{}:\n{e}", path.display()))?;
    Ok(version.ok_or("a first version is always new")?)
}
