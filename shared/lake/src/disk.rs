//! A bucket that is a folder: for the command line and for benchmarks, where the bytes should not be in memory.
//!
//! One process at a time: conditions are kept under a lock of this process. Attributes and versions are not kept, so a
//! lost acknowledgement cannot be told from a loss; there are none on a disk. Not for production.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use jiff::Timestamp;

use crate::store::must_be_absent;
use crate::{
    Attributes, Body, ByteStream, CopySource, ETag, Expected, Listed, Meta, Page, Requests, Store,
    StoreError,
};

/// The pieces in which [`Store::read`] hands out bytes: below the size from which allocators ask the system each time.
const PIECE: u64 = 64 * 1024;

/// A folder as a bucket.
pub struct Disk {
    root: PathBuf,
    name: String,
    writing: Mutex<()>,
    requests: Requests,
}

impl Disk {
    /// The bucket at `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { root, name, writing: Mutex::new(()), requests: Requests::default() }
    }

    /// Has it count what would be requests of S3, a file of any size as one.
    pub fn counting(self, requests: Requests) -> Self {
        Self { requests, ..self }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    fn meta(&self, key: &str) -> Result<Meta, StoreError> {
        let facts = std::fs::metadata(self.path(key)).map_err(|e| failed(key, &e))?;
        let modified = facts
            .modified()
            .ok()
            .and_then(|t| Timestamp::try_from(t).ok())
            .unwrap_or(Timestamp::UNIX_EPOCH);
        let etag = ETag(format!("\"{}-{}\"", facts.len(), modified.as_nanosecond()));
        Ok(Meta {
            size: facts.len(),
            etag,
            modified,
            version: None,
            attributes: Attributes::new(),
            sha256: None,
        })
    }

    fn write(
        &self,
        key: &str,
        body: &Body,
        allowed: impl FnOnce(Option<&Meta>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let _one = self.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let current = match self.meta(key) {
            Ok(meta) => Some(meta),
            Err(StoreError::Absent { .. }) => None,
            Err(error) => return Err(error),
        };
        allowed(current.as_ref())?;
        self.requests.stored(match body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::File(from) => std::fs::metadata(from).map_err(|e| failed(key, &e))?.len(),
        });
        let path = self.path(key);
        let parent = path.parent().unwrap_or(&self.root);
        let written = std::fs::create_dir_all(parent).and_then(|()| match body {
            Body::Bytes(bytes) => std::fs::write(&path, bytes),
            // Nobody changes a file that is handed over; only another disk must have a copy.
            Body::File(from) => {
                std::fs::hard_link(from, &path).or_else(|_| std::fs::copy(from, &path).map(|_| ()))
            }
        });
        written.map_err(|e| failed(key, &e))
    }
}

fn failed(key: &str, error: &std::io::Error) -> StoreError {
    let (key, reason) = (key.to_owned(), error.to_string());
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            StoreError::Absent { key }
        }
        std::io::ErrorKind::PermissionDenied => StoreError::Denied { key, reason },
        _ => StoreError::Other { key, reason },
    }
}

fn walk(root: &Path, at: &Path, rows: &mut Vec<String>) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(at) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            walk(root, &path, rows)?;
        } else if let Ok(key) = path.strip_prefix(root) {
            rows.push(key.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

#[async_trait]
impl Store for Disk {
    fn bucket(&self) -> &str {
        &self.name
    }

    fn uri(&self, key: &str) -> String {
        self.path(key).to_string_lossy().into_owned()
    }

    async fn head(&self, key: &str, _version: Option<&str>) -> Result<Meta, StoreError> {
        self.requests.count("s3", "HeadObject");
        self.meta(key)
    }

    async fn get(&self, key: &str) -> Result<(Meta, Bytes), StoreError> {
        self.requests.count("s3", "GetObject");
        let meta = self.meta(key)?;
        let bytes = std::fs::read(self.path(key)).map_err(|e| failed(key, &e))?;
        Ok((meta, bytes.into()))
    }

    async fn read(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<(Meta, ByteStream), StoreError> {
        self.requests.count("s3", "GetObject");
        let meta = self.meta(key)?;
        let range = range.unwrap_or(0..meta.size);
        let mut file = File::open(self.path(key)).map_err(|e| failed(key, &e))?;
        file.seek(SeekFrom::Start(range.start)).map_err(|e| failed(key, &e))?;
        let left = range.end.min(meta.size).saturating_sub(range.start);
        let key = key.to_owned();
        // A disk answers sooner than another thread does.
        let pieces = futures::stream::try_unfold((file, left), move |(mut file, left)| {
            let key = key.clone();
            async move {
                let take = left.min(PIECE);
                if take == 0 {
                    return Ok(None);
                }
                let mut piece = Vec::with_capacity(usize::try_from(take).unwrap_or_default());
                file.by_ref().take(take).read_to_end(&mut piece).map_err(|e| failed(&key, &e))?;
                if piece.is_empty() {
                    return Err(failed(&key, &io::ErrorKind::UnexpectedEof.into()));
                }
                let left = left - piece.len() as u64;
                Ok(Some((Bytes::from(piece), (file, left))))
            }
        });
        Ok((meta, pieces.boxed()))
    }

    async fn create(
        &self,
        key: &str,
        body: Body,
        _attributes: &Attributes,
    ) -> Result<(), StoreError> {
        self.requests.count("s3", "PutObject");
        self.write(key, &body, must_be_absent(key))
    }

    async fn swap(
        &self,
        key: &str,
        body: Bytes,
        expected: &Expected,
        _attributes: &Attributes,
    ) -> Result<(), StoreError> {
        self.requests.count("s3", "PutObject");
        self.write(key, &Body::Bytes(body), |current| match (expected, current) {
            (Expected::Nothing, None) => Ok(()),
            (Expected::Tag(tag), Some(meta)) if *tag == meta.etag => Ok(()),
            _ => Err(StoreError::Changed { key: key.to_owned() }),
        })
    }

    async fn copy(
        &self,
        from: &CopySource,
        key: &str,
        _attributes: &Attributes,
    ) -> Result<(), StoreError> {
        self.requests.count("s3", "CopyObject");
        let beside = self.root.parent().unwrap_or(&self.root).join(&from.bucket).join(&from.key);
        self.write(key, &Body::File(beside), must_be_absent(key))
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page, StoreError> {
        self.requests.count("s3", "ListObjectsV2");
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut keys = Vec::new();
        walk(&self.root, &self.path(folder), &mut keys).map_err(|e| failed(prefix, &e))?;
        keys.retain(|key| key.starts_with(prefix) && after.is_none_or(|a| key.as_str() > a));
        keys.sort_unstable();
        let more = keys.len() > 1000;
        keys.truncate(1000);
        let rows = keys
            .into_iter()
            .map(|key| self.meta(&key).map(|m| Listed { key, size: m.size, modified: m.modified }));
        Ok(Page { objects: rows.collect::<Result<_, _>>()?, more })
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.requests.count("s3", "DeleteObject");
        match std::fs::remove_file(self.path(key)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed(key, &e)),
            _ => Ok(()),
        }
    }
}
