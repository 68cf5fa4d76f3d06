//! Local folders for staged files: one an attempt, gone when it ends, and after a killed process at the next start.

use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

const PREFIX: &str = "sluicegate-stage-";

/// Where folders are made, and how much may lie in them.
#[derive(Clone, Debug)]
pub struct Scratch {
    root: PathBuf,
    bytes: u64,
}

impl Scratch {
    /// Makes folders below `root`, in which `bytes` may lie, after removing those of processes that are no more.
    pub fn new(root: impl Into<PathBuf>, bytes: u64) -> Self {
        let root = root.into();
        let own = std::process::id();
        let left = std::fs::read_dir(&root).into_iter().flatten().flatten();
        for entry in left {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|n| n.strip_prefix(PREFIX)?.split('-').next());
            let Some(pid) = pid.and_then(|p| p.parse::<u32>().ok()) else { continue };
            // A sandbox that is reused after a crash may give the same number again.
            if (pid == own || !alive(pid))
                && let Err(error) = std::fs::remove_dir_all(entry.path())
            {
                tracing::warn!(path = %entry.path().display(), %error, "left behind");
            }
        }
        Self { root, bytes }
    }

    /// Bytes for what an audit keeps for itself, keys that are sorted and an object that is read from its end: all but
    /// what data files need.
    pub(crate) fn for_audit(&self) -> u64 {
        self.bytes.saturating_sub(crate::sink::ON_DISK)
    }

    /// A folder that goes with its handle.
    pub fn folder(&self) -> io::Result<TempDir> {
        tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-", std::process::id()))
            .tempdir_in(&self.root)
    }
}

/// Whether a process runs; where that cannot be seen, it is taken to.
fn alive(pid: u32) -> bool {
    !Path::new("/proc/self").exists() || Path::new(&format!("/proc/{pid}")).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_dead_processes_go_and_those_of_the_living_stay() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let parent = std::os::unix::process::parent_id();
        let living = format!("{PREFIX}{parent}-x");
        for name in [living.as_str(), "sluicegate-stage-4294967294-y", "other"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        let scratch = Scratch::new(root.path(), 1 << 20);
        assert!(at(&living).exists() && at("other").exists());
        assert!(!at("sluicegate-stage-4294967294-y").exists());
        let folder = scratch.folder().unwrap();
        let path = folder.path().to_owned();
        assert!(path.exists());
        drop(folder);
        assert!(!path.exists());
    }
}
