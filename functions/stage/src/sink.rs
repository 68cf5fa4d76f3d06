//! Where the audit's rows go: Parquet files by partition, and quarantined rows as they were written.
//!
//! What is buffered is bounded by [`BUFFERED`] whatever the number of partitions: beyond it the fullest file's rows are
//! written out as a row group. What lies on disk is bounded too: files that are full, or the fullest where there is no
//! more room, are handed over while rows still come. Nothing here depends on time or on how the bytes arrived, so the same rows give the same
//! files (REP-1).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::file::properties::WriterPropertiesPtr;
use serde::Serialize;
use sluicegate_audit::{Accepted, BadRow, RowFault, Sink};
use sluicegate_table::iceberg::manifest::{Bound, DataFile};
use tokio::sync::mpsc;

use crate::encoding::{is_constant, properties};
use crate::file::{describe, exact_bound};

/// Bytes of encoded pages and open dictionaries that all open files may hold together.
const BUFFERED: usize = 32 << 20;
/// Files open at once: Lambda allows 1,024 descriptors.
const OPEN: usize = 256;
/// The size at which a data file is closed and the next begun.
const TARGET: usize = 128 << 20;
/// Bytes on disk that open files may have together.
const ROOM: u64 = 256 << 20;
/// Bytes on disk at most: open files, and three that are closed: one is uploaded, one waits, one is handed over. None of
/// this follows the size of the disk, or the same rows would give other files elsewhere (REP-1).
pub(crate) const ON_DISK: u64 = ROOM + 3 * TARGET as u64;
/// The size at which a part of the quarantine is closed and the next begun.
const QUARANTINE_TARGET: u64 = 64 << 20;

/// A finished data file on disk; `file.path` is still to be set.
pub(crate) struct LocalFile {
    pub(crate) path: PathBuf,
    pub(crate) file: DataFile,
}

/// Rows of the quarantine on disk, and their reasons.
pub(crate) struct QuarantinePart {
    pub(crate) rows: PathBuf,
    pub(crate) reasons: PathBuf,
}

/// Something that is complete, to be uploaded and removed.
pub(crate) enum Closed {
    File(LocalFile),
    Quarantine(QuarantinePart),
}

struct Open {
    path: PathBuf,
    writer: ArrowWriter<File>,
}

struct OpenPart {
    part: QuarantinePart,
    rows: BufWriter<File>,
    reasons: BufWriter<File>,
    written: u64,
}

/// A sink that writes local files.
pub(crate) struct LocalSink {
    folder: PathBuf,
    schema: SchemaRef,
    /// Chosen by the first rows, the same for all files of an object.
    properties: Option<WriterPropertiesPtr>,
    /// Bounds of columns with one value, by field id.
    constants: Vec<(i32, Bound)>,
    open: BTreeMap<Option<i32>, Open>,
    part: Option<OpenPart>,
    serial: usize,
    /// Takes what is complete before the end.
    closed: mpsc::Sender<Closed>,
}

/// One bad row's line in the quarantine.
#[derive(Serialize)]
struct Reasons<'a> {
    row: u64,
    /// Where the row begins in the unpacked raw object.
    offset: u64,
    /// Where it begins in the `.rows` object beside this one, and its length in both.
    at: u64,
    length: usize,
    faults: &'a [RowFault],
}

/// The bounds of columns that have one value in all rows.
fn constants(rows: &RecordBatch) -> Vec<(i32, Bound)> {
    let schema = rows.schema();
    let constant =
        schema.fields().iter().zip(rows.columns()).filter(|(f, _)| is_constant(f.name()));
    constant
        .filter_map(|(field, column)| {
            let id = field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()?;
            Some((id, exact_bound(column)?))
        })
        .collect()
}

impl LocalSink {
    pub(crate) fn new(folder: PathBuf, schema: SchemaRef, closed: mpsc::Sender<Closed>) -> Self {
        Self {
            folder,
            schema,
            properties: None,
            constants: Vec::new(),
            open: BTreeMap::new(),
            part: None,
            serial: 0,
            closed,
        }
    }

    fn new_path(&mut self, extension: &str) -> PathBuf {
        self.serial += 1;
        self.folder.join(format!("{}.{extension}", self.serial))
    }

    /// Waits until there is somebody who takes it.
    fn hand_over(&self, closed: Closed) -> io::Result<()> {
        self.closed.blocking_send(closed).map_err(|_| io::Error::other("nobody takes the files"))
    }

    /// Closes a partition's file before the end.
    fn roll(&mut self, partition: Option<i32>) -> io::Result<()> {
        match self.close(partition)? {
            Some(file) => self.hand_over(Closed::File(file)),
            None => Ok(()),
        }
    }

    fn close(&mut self, partition: Option<i32>) -> io::Result<Option<LocalFile>> {
        let Some(open) = self.open.remove(&partition) else { return Ok(None) };
        let metadata = open.writer.close()?;
        let bytes = std::fs::metadata(&open.path)?.len();
        let mut file = describe(&metadata, partition, bytes);
        for (id, bound) in &self.constants {
            file.lower_bounds.insert(*id, bound.clone());
            file.upper_bounds.insert(*id, bound.clone());
        }
        Ok(Some(LocalFile { path: open.path, file }))
    }

    /// Hands the largest file over while those on disk are too large together.
    fn make_disk_room(&mut self) -> io::Result<()> {
        loop {
            let sizes = self.open.iter().map(|(p, open)| (open.writer.bytes_written() as u64, *p));
            let (total, largest) = sizes.fold((0, None), |(total, largest), (size, partition)| {
                (total + size, largest.max(Some((size, partition))))
            });
            match largest {
                Some((_, partition)) if total > ROOM => self.roll(partition)?,
                _ => return Ok(()),
            }
        }
    }

    /// Writes the fullest files' rows out until what is buffered fits.
    fn make_room(&mut self) -> io::Result<()> {
        loop {
            let sizes = self.open.iter().map(|(p, open)| (open.writer.memory_size(), *p));
            let (total, fullest) = sizes.fold((0, None), |(total, fullest), (size, partition)| {
                (total + size, fullest.max(Some((size, partition))))
            });
            let Some((size, partition)) = fullest.filter(|(size, _)| total > BUFFERED && *size > 0)
            else {
                return Ok(());
            };
            let Some(open) = self.open.get_mut(&partition) else { return Ok(()) };
            open.writer.flush()?;
            if open.writer.memory_size() >= size {
                // What is left is the writer's own; many partitions hold it many times over.
                return self.roll(partition);
            }
        }
    }

    fn next_part(&mut self, header: &[u8]) -> io::Result<&mut OpenPart> {
        let full = self.part.as_ref().is_some_and(|part| part.written >= QUARANTINE_TARGET);
        if full && let Some(part) = self.close_part()? {
            self.hand_over(Closed::Quarantine(part))?;
        }
        if self.part.is_none() {
            let part =
                QuarantinePart { rows: self.new_path("rows"), reasons: self.new_path("jsonl") };
            let mut rows = BufWriter::new(File::create(&part.rows)?);
            rows.write_all(header)?;
            let reasons = BufWriter::new(File::create(&part.reasons)?);
            self.part = Some(OpenPart { part, rows, reasons, written: header.len() as u64 });
        }
        self.part.as_mut().ok_or_else(|| io::Error::other("no part of the quarantine is open"))
    }

    fn close_part(&mut self) -> io::Result<Option<QuarantinePart>> {
        let Some(mut open) = self.part.take() else { return Ok(None) };
        open.rows.flush()?;
        open.reasons.flush()?;
        Ok(Some(open.part))
    }

    /// Closes every file that is still open.
    pub(crate) fn finish(mut self) -> io::Result<Vec<Closed>> {
        let mut closed = Vec::with_capacity(self.open.len() + 1);
        while let Some(partition) = self.open.keys().next().copied() {
            closed.extend(self.close(partition)?.map(Closed::File));
        }
        closed.extend(self.close_part()?.map(Closed::Quarantine));
        Ok(closed)
    }
}

impl Sink for LocalSink {
    fn accept(&mut self, accepted: Accepted) -> io::Result<()> {
        let Accepted { partition, rows } = accepted;
        if !self.open.contains_key(&partition) {
            if self.open.len() >= OPEN {
                let fullest = self.open.iter().max_by_key(|(p, o)| (o.writer.memory_size(), **p));
                let fullest = fullest.map(|(partition, _)| *partition);
                fullest.map_or(Ok(()), |partition| self.roll(partition))?;
            }
            let path = self.new_path("parquet");
            // Engines read the Parquet schema; Arrow's own, embedded, would only make every file larger.
            if self.properties.is_none() {
                self.constants = constants(&rows);
            }
            let properties = self.properties.get_or_insert_with(|| Arc::new(properties(&rows)));
            let options = ArrowWriterOptions::new()
                .with_properties(properties.as_ref().clone())
                .with_skip_arrow_metadata(true);
            let writer = ArrowWriter::try_new_with_options(
                File::create(&path)?,
                self.schema.clone(),
                options,
            )?;
            self.open.insert(partition, Open { path, writer });
        }
        let Some(open) = self.open.get_mut(&partition) else { return Ok(()) };
        open.writer.write(&rows)?;
        if open.writer.bytes_written() + open.writer.in_progress_size() > TARGET {
            self.roll(partition)?;
        }
        self.make_room()?;
        self.make_disk_room()
    }

    fn quarantine(&mut self, header: &[u8], row: &BadRow<'_>) -> io::Result<()> {
        let part = self.next_part(header)?;
        let reasons = Reasons {
            row: row.row,
            offset: row.offset,
            at: part.written,
            length: row.bytes.len(),
            faults: &row.faults,
        };
        serde_json::to_writer(&mut part.reasons, &reasons)?;
        part.reasons.write_all(b"\n")?;
        part.rows.write_all(row.bytes)?;
        part.rows.write_all(b"\n")?;
        part.written += row.bytes.len() as u64 + 1;
        Ok(())
    }
}
