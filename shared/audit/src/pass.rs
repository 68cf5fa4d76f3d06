//! The one pass: decode, check, split good from bad, and decide.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, RecordBatch, StringArray,
    StructArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::{
    DataType, Date32Type, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sluicegate_contract::audits::AuditMeasure;
use sluicegate_contract::check::{published_schema, suspects};
use sluicegate_contract::infer::Amendment;
use sluicegate_contract::profile::Profile;
use sluicegate_contract::time::{MICROS_PER_DAY, MICROS_PER_HOUR, month_of_day};
use sluicegate_contract::{
    AuditResult, Contract, Coverage, Grain, Lineage, Outcome, Reason, RowFormat, Verdict,
    VerdictError, Version, pointer,
};

use crate::Scratch;
use crate::csv::Csv;
use crate::decode::{Chunk, DecodeError, Decoder, RowFault};
use crate::input;
use crate::jsonl::Jsonl;
use crate::judge::{self, History};
use crate::parquet::Parquet;
use crate::profile::Profiler;
use crate::rowtest::{RowTests, Tally};
use crate::unique::{Keys, Uniqueness};
use crate::unknown::Unknown;

/// Partitions that the rows of one object may lie in: each is a file, and a request.
const MAX_PARTITIONS: usize = 10_000;

/// What an object is held against.
#[derive(Clone, Debug)]
pub struct Rules {
    contract: Contract,
    schema: SchemaRef,
    raw_id: String,
    landed_at: Timestamp,
}

impl Rules {
    /// The rules for one raw object under one version of its contract.
    pub fn new(contract: Contract, version: &Version, raw_id: &str, landed_at: Timestamp) -> Self {
        let schema = published_schema(&contract, version);
        Self { contract, schema, raw_id: raw_id.to_owned(), landed_at }
    }

    /// The schema of accepted batches, lineage columns included.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The contract.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }
}

/// Accepted rows of one partition.
#[derive(Debug)]
pub struct Accepted {
    /// The partition's value: hours, days or months since 1970, by the contract's grain; `None` without one.
    pub partition: Option<i32>,
    pub rows: RecordBatch,
}

/// A bad row.
#[derive(Debug)]
pub struct BadRow<'a> {
    /// Its number in the object, from 1, the header not counted.
    pub row: u64,
    /// Where it begins in the unpacked object; of Parquet, where its row group does.
    pub offset: u64,
    /// As it was written, its line end left out; of Parquet, as the JSON object that it stands for.
    pub bytes: &'a [u8],
    /// Every rule that it broke.
    pub faults: Vec<RowFault>,
}

/// Where an audit puts what it has read.
pub trait Sink {
    /// Keeps accepted rows.
    fn accept(&mut self, accepted: Accepted) -> io::Result<()>;

    /// Keeps a bad row; `header` makes a file of the source of it.
    fn quarantine(&mut self, header: &[u8], row: &BadRow<'_>) -> io::Result<()>;
}

/// What an audit came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    pub verdict: Verdict,
    /// First and last event time of the accepted rows, in microseconds since 1970.
    pub event_range: Option<(i64, i64)>,
    /// What the accepted rows look like.
    pub profile: Profile,
    /// What each of the contract's audits came to; none of what could not be read.
    #[serde(default)]
    pub audits: Vec<AuditResult>,
    /// Fields of the source that the contract does not know, as it might learn them.
    pub amendments: Vec<Amendment>,
    /// How often each rule was broken: `property rule` → rows.
    pub broken: BTreeMap<String, u64>,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The bytes could not be read to their end. Nothing is said about them.
    #[error("the object could not be read to its end: {0}")]
    Source(io::Error),
    /// What was read could not be kept.
    #[error("what was staged could not be kept: {0}")]
    Sink(io::Error),
    /// A defect of ours.
    #[error("defect: {0}")]
    Arrow(#[from] ArrowError),
    /// A defect of ours.
    #[error("defect: {0}")]
    Verdict(#[from] VerdictError),
}

/// Reads an object to its end, and decides as if nothing had been published before.
pub fn audit(
    source: impl Read + Send,
    rules: &Rules,
    scratch: &Scratch,
    sink: &mut dyn Sink,
) -> Result<Audit, AuditError> {
    read(source, rules, scratch, sink)?.judge(rules, &History::default())
}

/// Reads an object to its end.
pub fn read(
    source: impl Read + Send,
    rules: &Rules,
    scratch: &Scratch,
    sink: &mut dyn Sink,
) -> Result<Seen, AuditError> {
    let mut pass = Pass::new(rules, scratch);
    let opened = input::open(source, rules.contract.format.compression());
    let (reader, progress) = match opened {
        Ok(opened) => opened,
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            return pass.finish(Some(Reason::new("compression", e.to_string())), 0);
        }
        Err(e) => return Err(AuditError::Source(e)),
    };
    let unknown = RefCell::new(Unknown::of(&rules.contract));
    let contract = &rules.contract;
    let outcome = match &contract.format {
        RowFormat::Csv(format) => Csv::new(contract, format, reader, &unknown)
            .map_err(Stop::Decode)
            .and_then(|mut decoder| pass.run(&mut decoder, sink)),
        RowFormat::Jsonl(format) => Jsonl::new(contract, format, reader, &unknown)
            .map_err(Stop::Decode)
            .and_then(|mut decoder| pass.run(&mut decoder, sink)),
        RowFormat::Parquet(format) => {
            let limit = scratch.limit - room_for_keys(contract, scratch);
            let scratch = Scratch { limit, ..scratch.clone() };
            Parquet::new(contract, format, reader, &scratch, &unknown)
                .map_err(Stop::Decode)
                .and_then(|mut decoder| pass.run(&mut decoder, sink))
        }
    };
    pass.amendments = unknown.into_inner().finish(pass.coverage.rows_read);
    let unreadable = match outcome {
        Ok(()) => None,
        Err(Stop::Decode(DecodeError::Unreadable(reason))) => Some(reason),
        Err(Stop::Decode(DecodeError::Io(e))) if progress.source_failed() => {
            return Err(AuditError::Source(e));
        }
        // The source gave its bytes; unpacking them failed.
        Err(Stop::Decode(DecodeError::Io(e))) => Some(Reason::new("compression", e.to_string())),
        Err(Stop::Decode(DecodeError::Scratch(e))) => return Err(AuditError::Sink(e)),
        Err(Stop::Decode(DecodeError::Defect(error))) => return Err(error.into()),
        Err(Stop::Fatal(error)) => return Err(error),
    };
    pass.finish(unreadable, progress.bytes())
}

/// A Parquet object needs as much room as its keys may.
fn room_for_keys(contract: &Contract, scratch: &Scratch) -> u64 {
    match contract.format {
        RowFormat::Parquet(_) => scratch.limit / 2,
        RowFormat::Csv(_) | RowFormat::Jsonl(_) => scratch.limit,
    }
}

enum Stop {
    Decode(DecodeError),
    Fatal(AuditError),
}

impl<E: Into<AuditError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Fatal(error.into())
    }
}

/// What was seen of an object, read to its end and not yet judged.
#[derive(Debug)]
pub struct Seen {
    /// Why it cannot be read as its contract says, if it cannot.
    unreadable: Option<Reason>,
    coverage: Coverage,
    event_range: Option<(i64, i64)>,
    profile: Profile,
    tallies: BTreeMap<String, Tally>,
    keys: BTreeMap<String, Uniqueness>,
    partitions: BTreeMap<Option<i32>, u64>,
    amendments: Vec<Amendment>,
    broken: BTreeMap<String, u64>,
}

impl Seen {
    /// Whether it will be rejected.
    pub fn is_unreadable(&self) -> bool {
        self.unreadable.is_some()
    }

    /// The past files whose profiles are needed to judge it, by their places in the history.
    pub fn profiles_wanted(&self, rules: &Rules, history: &History) -> BTreeSet<usize> {
        history.wanted(&rules.contract, rules.landed_at, self.profile.events.main_day())
    }

    /// Decides.
    pub fn judge(self, rules: &Rules, history: &History) -> Result<Audit, AuditError> {
        let (outcome, reasons, audits) = match self.unreadable {
            Some(reason) => (Outcome::Reject, vec![reason], Vec::new()),
            None => {
                let facts = judge::Facts {
                    profile: &self.profile,
                    coverage: self.coverage,
                    tallies: self.tallies,
                    keys: self.keys,
                    partitions: self.partitions,
                    event_range: self.event_range,
                    landed_at: rules.landed_at,
                };
                let audits = judge::judge(&rules.contract, &facts, history);
                let bad = bad_rows(&rules.contract, self.coverage, &self.broken);
                let failed = audits.iter().filter(|audit| audit.holds()).map(|audit| {
                    let AuditResult { id, expected, found, .. } = audit;
                    Reason::new("audit", format!("audit {id}: {expected}; found {found}"))
                });
                let reasons: Vec<Reason> = bad.into_iter().chain(failed).collect();
                let outcome = if reasons.is_empty() { Outcome::Publish } else { Outcome::Hold };
                (outcome, reasons, audits)
            }
        };
        Ok(Audit {
            verdict: Verdict::new(outcome, reasons, self.coverage)?,
            event_range: self.event_range,
            profile: self.profile,
            audits,
            amendments: self.amendments,
            broken: self.broken,
        })
    }
}

struct Pass<'a> {
    rules: &'a Rules,
    scratch: &'a Scratch,
    tests: RowTests,
    /// By the ids of their audits.
    keys: Vec<(String, Keys)>,
    partitions: BTreeMap<Option<i32>, u64>,
    /// The raw id, as often as a chunk has needed it.
    raw_ids: ArrayRef,
    profiler: Profiler,
    coverage: Coverage,
    event_range: Option<(i64, i64)>,
    amendments: Vec<Amendment>,
    broken: BTreeMap<String, u64>,
}

impl<'a> Pass<'a> {
    fn new(rules: &'a Rules, scratch: &'a Scratch) -> Self {
        let contract = &rules.contract;
        let keys: Vec<(&str, Vec<usize>)> = contract
            .audits
            .iter()
            .filter_map(|rule| match &rule.measure {
                AuditMeasure::Unique { columns } => Some((rule.id.as_str(), columns)),
                _ => None,
            })
            .map(|(id, columns)| {
                let place = |name: &String| contract.fields.iter().position(|f| f.name == *name);
                (id, columns.iter().filter_map(place).collect())
            })
            .collect();
        let count = keys.len().max(1);
        let share = room_for_keys(contract, scratch) / count as u64;
        let keys =
            keys.into_iter().map(|(id, columns)| (id.to_owned(), Keys::new(columns, share, count)));
        Self {
            rules,
            scratch,
            tests: RowTests::new(contract),
            keys: keys.collect(),
            partitions: BTreeMap::new(),
            raw_ids: arrow::array::new_empty_array(&DataType::Utf8),
            profiler: Profiler::new(&rules.contract),
            coverage: Coverage::default(),
            event_range: None,
            amendments: Vec::new(),
            broken: BTreeMap::new(),
        }
    }

    fn run(&mut self, decoder: &mut dyn Decoder, sink: &mut dyn Sink) -> Result<(), Stop> {
        while let Some(chunk) = decoder.next_chunk().map_err(Stop::Decode)? {
            let bytes = self.chunk(chunk, decoder, sink)?;
            decoder.recycle(bytes);
        }
        Ok(())
    }

    fn chunk(
        &mut self,
        mut chunk: Chunk,
        decoder: &dyn Decoder,
        sink: &mut dyn Sink,
    ) -> Result<Vec<u8>, Stop> {
        let first_row = self.coverage.rows_read + 1;
        let bad = self.faults_by_row(&mut chunk, decoder);
        self.coverage.rows_read += chunk.rows as u64;
        self.coverage.rows_quarantined += bad.len() as u64;
        let mut good = vec![true; chunk.rows];
        for (row, faults) in bad {
            if let Some(good) = good.get_mut(row) {
                *good = false;
            }
            for fault in &faults {
                let place = fault.column.as_deref().unwrap_or("row");
                *self.broken.entry(format!("{place} {}", fault.rule)).or_default() += 1;
            }
            let start = chunk.spans.get(row).map_or(0, |span| span.start);
            let bad_row = BadRow {
                row: first_row + row as u64,
                offset: chunk.offset + start as u64,
                bytes: &decoder.original(&chunk, row),
                faults,
            };
            sink.quarantine(decoder.header(), &bad_row).map_err(AuditError::Sink)?;
        }
        let bytes = std::mem::take(&mut chunk.bytes);
        let batch = self.with_lineage(chunk, first_row)?;
        let rows = if good.iter().all(|g| *g) {
            batch
        } else {
            filter_record_batch(&batch, &BooleanArray::from(good))?
        };
        self.coverage.rows_accepted += rows.num_rows() as u64;
        for accepted in self.split(rows)? {
            let rows = accepted.rows.num_rows() as u64;
            *self.partitions.entry(accepted.partition).or_default() += rows;
            if self.partitions.len() > MAX_PARTITIONS {
                let reason = format!(
                    "the rows lie in more than {MAX_PARTITIONS} partitions: a grain wider than the contract's is needed"
                );
                return Err(Stop::Decode(DecodeError::Unreadable(Reason::new(
                    "partitions",
                    reason,
                ))));
            }
            sink.accept(accepted).map_err(AuditError::Sink)?;
        }
        Ok(bytes)
    }

    /// Every bad row of a chunk with all its faults.
    fn faults_by_row(
        &self,
        chunk: &mut Chunk,
        decoder: &dyn Decoder,
    ) -> BTreeMap<usize, Vec<RowFault>> {
        let contract = &self.rules.contract;
        let mut bad: BTreeMap<usize, Vec<RowFault>> = BTreeMap::new();
        let suspects = suspects(contract, &chunk.columns, chunk.rows);
        if suspects.is_some() || chunk.bad.contains(&true) || !chunk.doubtful.is_empty() {
            let doubtful: BTreeSet<usize> = chunk.doubtful.drain(..).collect();
            let mut broken = std::mem::take(&mut chunk.broken);
            for row in 0..chunk.rows {
                let decoded = !chunk.bad.get(row).copied().unwrap_or_default();
                let suspect =
                    suspects.as_ref().is_some_and(|s| s.value(row)) || doubtful.contains(&row);
                if decoded && !suspect {
                    continue;
                }
                let faults = match broken.remove(&row) {
                    Some(fault) => vec![fault],
                    None => {
                        let blamed = chunk.blamed.get(&row).and_then(|i| contract.fields.get(*i));
                        let original = decoder.original(chunk, row);
                        explain(contract, decoder.datum(&original), decoded, blamed)
                    }
                };
                if !faults.is_empty() {
                    bad.insert(row, faults);
                }
            }
        }
        self.events_ahead(chunk, &mut bad);
        bad
    }

    /// Rows that claim to have happened further after their landing than the contract allows.
    fn events_ahead(&self, chunk: &Chunk, bad: &mut BTreeMap<usize, Vec<RowFault>>) {
        let contract = &self.rules.contract;
        let Some(event_time) = &contract.event_time else { return };
        let (Some(field), Some(column)) =
            (contract.fields.get(event_time.field), chunk.columns.get(event_time.field))
        else {
            return;
        };
        let column = &column.array;
        let pointer = pointer::child("", &field.source);
        let redacted = contract.is_redacted(&pointer);
        let latest = self.rules.landed_at.saturating_add(event_time.max_ahead);
        let latest = latest.unwrap_or(Timestamp::MAX).as_microsecond();
        for (row, event) in event_micros(column).into_iter().enumerate() {
            if event > latest && column.is_valid(row) {
                keep(bad.entry(row).or_default(), || RowFault {
                    column: Some(field.source.clone()),
                    pointer: pointer.clone(),
                    rule: "max_ahead",
                    reason: format!(
                        "lies more than {} after landing at {}{}",
                        event_time.max_ahead,
                        self.rules.landed_at,
                        if redacted {
                            String::new()
                        } else {
                            format!(", is {}", shown(column, row))
                        }
                    ),
                });
            }
        }
    }

    fn with_lineage(&mut self, chunk: Chunk, first_row: u64) -> Result<RecordBatch, ArrowError> {
        let rows = chunk.rows;
        if self.raw_ids.len() < rows {
            let ids = std::iter::repeat_n(self.rules.raw_id.as_str(), rows);
            self.raw_ids = Arc::new(StringArray::from_iter_values(ids));
        }
        let first = i64::try_from(first_row).unwrap_or(i64::MAX);
        let last = first.saturating_add(i64::try_from(rows).unwrap_or(i64::MAX));
        let landed = self.rules.landed_at.as_microsecond();
        let extra = chunk.extra;
        let mut columns: Vec<ArrayRef> = chunk.columns.into_iter().map(|v| v.array).collect();
        for lineage in Lineage::of(&self.rules.contract) {
            columns.push(match lineage {
                Lineage::RawId => self.raw_ids.slice(0, rows),
                Lineage::RawRow => Arc::new(Int64Array::from_iter_values(first..last)),
                Lineage::LandedAt => Arc::new(
                    TimestampMicrosecondArray::from_value(landed, rows).with_timezone("UTC"),
                ),
                Lineage::Extra => match &extra {
                    Some(extra) => extra.clone(),
                    None => arrow::array::new_null_array(&DataType::Utf8, rows),
                },
            });
        }
        // A bad row may have null where the published schema has none: it is filtered out before anyone sees it.
        let names = self.rules.schema.fields().iter().zip(&columns);
        let loose = names.map(|(f, column)| Field::new(f.name(), column.data_type().clone(), true));
        RecordBatch::try_new(Arc::new(Schema::new(loose.collect::<Vec<_>>())), columns)
    }

    /// Splits rows by partition, in the order of the partitions, and notes their event times.
    fn split(&mut self, rows: RecordBatch) -> Result<Vec<Accepted>, AuditError> {
        if rows.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let columns = rows.columns().iter().zip(self.rules.schema.fields());
        let columns = columns.map(|(column, field)| published(column, field.data_type()));
        let columns = columns.collect::<Result<_, _>>()?;
        let rows = RecordBatch::try_new(self.rules.schema.clone(), columns)?;
        self.tests.update(&rows);
        let numbers = rows.column_by_name(Lineage::RawRow.name());
        if let Some(numbers) = numbers.and_then(|n| n.as_primitive_opt::<Int64Type>()) {
            for (_, keys) in &mut self.keys {
                let kept = keys.update(&rows, numbers.values(), self.scratch);
                kept.map_err(AuditError::Sink)?;
            }
        }
        let Some(event_time) = &self.rules.contract.event_time else {
            self.profiler.update(&rows, &[]);
            return Ok(vec![Accepted { partition: None, rows }]);
        };
        let events = event_micros(rows.column(event_time.field));
        self.profiler.update(&rows, &events);
        for event in &events {
            let (low, high) = self.event_range.unwrap_or((*event, *event));
            self.event_range = Some((low.min(*event), high.max(*event)));
        }
        let Some(partition) = partition_of(event_time.grain) else {
            return Ok(vec![Accepted { partition: None, rows }]);
        };
        let mut members: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
        for (row, event) in (0u32..).zip(&events) {
            members.entry(partition(*event)).or_default().push(row);
        }
        if let (1, Some(only)) = (members.len(), members.keys().next()) {
            return Ok(vec![Accepted { partition: Some(*only), rows }]);
        }
        let parts = members.into_iter().map(|(partition, indices)| {
            let rows = take_record_batch(&rows, &UInt32Array::from(indices))?;
            Ok(Accepted { partition: Some(partition), rows })
        });
        parts.collect()
    }

    fn finish(mut self, unreadable: Option<Reason>, bytes: u64) -> Result<Seen, AuditError> {
        self.coverage.bytes = bytes;
        let mut keys = BTreeMap::new();
        for (id, each) in self.keys.into_iter().filter(|_| unreadable.is_none()) {
            keys.insert(id, each.finish(self.scratch).map_err(AuditError::Sink)?);
        }
        Ok(Seen {
            unreadable,
            coverage: self.coverage,
            event_range: self.event_range,
            profile: self.profiler.finish(),
            tallies: self.tests.finish(),
            keys,
            partitions: self.partitions,
            amendments: self.amendments,
            broken: self.broken,
        })
    }
}

/// Why an object is held for its bad rows, or for having none at all.
fn bad_rows(
    contract: &Contract,
    coverage: Coverage,
    broken: &BTreeMap<String, u64>,
) -> Option<Reason> {
    let Coverage { rows_read, rows_accepted, rows_quarantined, .. } = coverage;
    if rows_read == 0 {
        let message =
            "the object has no rows: publishing it would replace what it was before with nothing";
        return Some(Reason::new("no_rows", message));
    }
    let allowed = contract.bad_rows;
    #[allow(clippy::cast_precision_loss, reason = "a share; exact up to 2^53 rows")]
    let fraction = rows_quarantined as f64 / rows_read as f64;
    let few = allowed.max_count.is_none_or(|most| rows_quarantined <= most);
    if few && fraction <= allowed.max_fraction && rows_accepted > 0 {
        return None;
    }
    let limit = match allowed.max_count {
        _ if rows_accepted == 0 => "none without a good row".to_owned(),
        Some(count) if !few => format!("{count} rows"),
        _ => format!("{:.2} %", allowed.max_fraction * 100.0),
    };
    let mut most: Vec<_> = broken.iter().collect();
    most.sort_by_key(|(_, rows)| std::cmp::Reverse(**rows));
    let most = most.iter().take(3).map(|(rule, rows)| format!("{rule} × {rows}"));
    let most = most.collect::<Vec<_>>().join(", ");
    Some(Reason::new(
        "bad_rows",
        format!(
            "{rows_quarantined} of {rows_read} rows are bad ({:.2} %, the contract allows {limit}); most often: {most}",
            fraction * 100.0,
        ),
    ))
}

/// A column as it is published: the same values, with the field ids and nulls of the published schema inside.
fn published(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    match wanted {
        _ if column.data_type() == wanted => Ok(column.clone()),
        DataType::Struct(fields) => {
            let structs = column.as_struct();
            let inner = structs.columns().iter().zip(fields);
            let inner = inner.map(|(column, field)| published(column, field.data_type()));
            let inner = inner.collect::<Result<Vec<_>, _>>()?;
            let array = StructArray::try_new_with_length(
                fields.clone(),
                inner,
                structs.nulls().cloned(),
                structs.len(),
            )?;
            Ok(Arc::new(array))
        }
        DataType::List(item) => {
            let list = column.as_list::<i32>();
            let values = published(list.values(), item.data_type())?;
            let offsets = list.offsets().clone();
            Ok(Arc::new(ListArray::try_new(item.clone(), offsets, values, list.nulls().cloned())?))
        }
        _ => Ok(column.clone()),
    }
}

/// The faults of a row as it was written; `decoded`: whether it has a place in every column, `blamed`: one that it has
/// none in.
fn explain(
    contract: &Contract,
    row: Result<sluicegate_contract::Datum<'_>, RowFault>,
    decoded: bool,
    blamed: Option<&sluicegate_contract::Field>,
) -> Vec<RowFault> {
    let row = match row {
        Ok(row) => row,
        Err(fault) => return vec![fault],
    };
    let mut faults = Vec::new();
    for fault in contract.explain(&row) {
        keep(&mut faults, || {
            let redacted = contract.is_redacted(&fault.pointer);
            let reason = match &fault.value {
                Some(value) => format!("{}, is {value}", fault.demand),
                None if redacted => format!("{} (its value is not shown)", fault.demand),
                None => fault.demand.clone(),
            };
            RowFault {
                column: pointer::names(&fault.pointer).next(),
                pointer: fault.pointer.clone(),
                rule: fault.rule,
                reason,
            }
        });
    }
    if faults.is_empty() && !decoded {
        let reason = "has a value that its column cannot hold exactly as it is written";
        let fault = RowFault::whole("logicalType", reason);
        faults.push(match blamed {
            Some(field) => RowFault {
                column: Some(field.source.clone()),
                pointer: pointer::child("", &field.source),
                ..fault
            },
            None => fault,
        });
    }
    faults
}

/// Faults of one row that are kept; of a row that breaks everything, the rest says nothing more.
const MAX_FAULTS: usize = 20;

fn keep(faults: &mut Vec<RowFault>, fault: impl FnOnce() -> RowFault) {
    match faults.len() {
        0..MAX_FAULTS => faults.push(fault()),
        MAX_FAULTS => {
            faults.push(RowFault::whole("more", format!("has more than {MAX_FAULTS} faults")));
        }
        _ => {}
    }
}

/// The event times of a column in microseconds; nulls are 0.
fn event_micros(column: &ArrayRef) -> Vec<i64> {
    if let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() {
        times.values().to_vec()
    } else if let Some(dates) = column.as_primitive_opt::<Date32Type>() {
        dates.values().iter().map(|day| i64::from(*day) * MICROS_PER_DAY).collect()
    } else {
        Vec::new()
    }
}

/// The partition that an event time falls into.
fn partition_of(grain: Grain) -> Option<fn(i64) -> i32> {
    // Event times are years 0 to 9999: their hours fit 32 bits.
    match grain {
        Grain::Hour => Some(|e| i32::try_from(e.div_euclid(MICROS_PER_HOUR)).unwrap_or_default()),
        Grain::Day => Some(|e| i32::try_from(e.div_euclid(MICROS_PER_DAY)).unwrap_or_default()),
        Grain::Month => {
            Some(|e| month_of_day(i32::try_from(e.div_euclid(MICROS_PER_DAY)).unwrap_or_default()))
        }
        Grain::None => None,
    }
}

/// An event time for a message.
fn shown(column: &ArrayRef, row: usize) -> String {
    // Arrow writes no time of a zone without a data base of zones.
    let micros = column.as_primitive_opt::<TimestampMicrosecondType>().map(|c| c.value(row));
    let shown = match micros {
        Some(micros) => Timestamp::from_microsecond(micros).ok().map(|at| at.to_string()),
        None => arrow::util::display::array_value_to_string(column, row).ok(),
    };
    shown.filter(|text| !text.is_empty()).unwrap_or_else(|| "beyond the calendar".to_owned())
}
