//! Table metadata: the JSON file that the pointer names.
//!
//! Guarantees: every change is a new value, made from the old one, fit to be written under the next number; a change
//! that was never swapped in leaves no trace. Sequence numbers and times never go back. Keys at the top level that this
//! module does not know survive. Fails on other format versions than 2 and on metadata that does not hold together.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::FormatError;
use super::schema::{PartitionField, PartitionSpec, Schema};

const VERSION: i32 = 2;
const MAIN: &str = "main";
/// Partition fields are numbered from 1000, so this is the last id before the first.
const NO_PARTITION_ID: i32 = 999;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Snapshot {
    pub snapshot_id: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_snapshot_id: Option<i64>,
    pub sequence_number: i64,
    pub timestamp_ms: i64,
    pub manifest_list: String,
    /// Readers demand the key `operation`: `append`, `overwrite`, `replace` or `delete`.
    pub summary: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_id: Option<i32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotLogEntry {
    pub snapshot_id: i64,
    pub timestamp_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MetadataLogEntry {
    pub metadata_file: String,
    pub timestamp_ms: i64,
}

/// A branch or tag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reference {
    pub snapshot_id: i64,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TableMetadata {
    pub format_version: i32,
    pub table_uuid: String,
    pub location: String,
    pub last_sequence_number: i64,
    pub last_updated_ms: i64,
    pub last_column_id: i32,
    pub schemas: Vec<Schema>,
    pub current_schema_id: i32,
    pub partition_specs: Vec<PartitionSpec>,
    pub default_spec_id: i32,
    pub last_partition_id: i32,
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_snapshot_id: Option<i64>,
    #[serde(default)]
    pub snapshots: Vec<Snapshot>,
    #[serde(default)]
    pub snapshot_log: Vec<SnapshotLogEntry>,
    #[serde(default)]
    pub metadata_log: Vec<MetadataLogEntry>,
    pub sort_orders: Vec<Value>,
    pub default_sort_order_id: i32,
    #[serde(default)]
    pub refs: BTreeMap<String, Reference>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl TableMetadata {
    /// A table without a snapshot.
    pub fn new(
        uuid: impl Into<String>,
        location: impl Into<String>,
        schema: Schema,
        spec: PartitionSpec,
        now_ms: i64,
    ) -> Self {
        Self {
            format_version: VERSION,
            table_uuid: uuid.into(),
            location: location.into(),
            last_sequence_number: 0,
            last_updated_ms: now_ms,
            last_column_id: schema.last_id(),
            current_schema_id: schema.id,
            schemas: vec![schema],
            default_spec_id: spec.id,
            last_partition_id: spec
                .fields
                .iter()
                .map(|field| field.field_id)
                .max()
                .unwrap_or(NO_PARTITION_ID),
            partition_specs: vec![spec],
            properties: BTreeMap::new(),
            current_snapshot_id: None,
            snapshots: Vec::new(),
            snapshot_log: Vec::new(),
            metadata_log: Vec::new(),
            sort_orders: vec![json!({"order-id": 0, "fields": []})],
            default_sort_order_id: 0,
            refs: BTreeMap::new(),
            other: Map::new(),
        }
    }

    pub fn current_snapshot(&self) -> Option<&Snapshot> {
        let id = self.current_snapshot_id?;
        // The newest is last, so this looks at one.
        self.snapshots.iter().rev().find(|snapshot| snapshot.snapshot_id == id)
    }

    pub fn current_schema(&self) -> Option<&Schema> {
        self.schemas.iter().find(|schema| schema.id == self.current_schema_id)
    }

    pub fn default_spec(&self) -> Option<&PartitionSpec> {
        self.partition_specs.iter().find(|spec| spec.id == self.default_spec_id)
    }

    /// With `schema` as the current one. A schema of the same fields keeps the id it has; an id that other fields have
    /// taken is exchanged for the next free one: `current_schema` tells.
    #[must_use]
    pub fn with_schema(&self, mut schema: Schema) -> Self {
        let mut next = self.clone();
        next.last_column_id = next.last_column_id.max(schema.last_id());
        if let Some(known) = self.schemas.iter().find(|known| known.fields == schema.fields) {
            next.current_schema_id = known.id;
            return next;
        }
        if self.schemas.iter().any(|known| known.id == schema.id) {
            let last = self.schemas.iter().map(|known| known.id).max().unwrap_or(0);
            schema.id = last.saturating_add(1);
        }
        next.current_schema_id = schema.id;
        next.schemas.push(schema);
        next
    }

    /// With a spec of these partition fields as the default one; field ids are given out here. A spec of the same fields
    /// keeps the id it has, and so does a partition field that another spec has had: ids are never used twice.
    #[must_use]
    pub fn with_spec(&self, mut fields: Vec<PartitionField>) -> Self {
        let mut next = self.clone();
        for field in &mut fields {
            let known = self.partition_specs.iter().flat_map(|spec| &spec.fields).find(|known| {
                (known.source_id, known.transform) == (field.source_id, field.transform)
            });
            field.field_id = known.map_or_else(
                || {
                    next.last_partition_id = next.last_partition_id.saturating_add(1);
                    next.last_partition_id
                },
                |known| known.field_id,
            );
            if let Some(known) = known {
                field.name.clone_from(&known.name);
            }
        }
        if let Some(known) = self.partition_specs.iter().find(|known| known.fields == fields) {
            next.default_spec_id = known.id;
            return next;
        }
        let last = self.partition_specs.iter().map(|known| known.id).max().unwrap_or(-1);
        let id = last.saturating_add(1);
        next.default_spec_id = id;
        next.partition_specs.push(PartitionSpec { id, fields });
        next
    }

    /// With `snapshot` as the current one and the newest `max_retained` (at least it) still listed, besides those that
    /// a tag or another branch holds. A timestamp before the last one is raised to it: readers refuse a log that goes
    /// back in time, and writers' clocks differ.
    #[must_use]
    pub fn with_snapshot(&self, mut snapshot: Snapshot, max_retained: usize) -> Self {
        let mut next = self.clone();
        snapshot.timestamp_ms = snapshot.timestamp_ms.max(self.last_updated_ms);
        let id = snapshot.snapshot_id;
        next.last_updated_ms = snapshot.timestamp_ms;
        next.last_sequence_number = self.last_sequence_number.max(snapshot.sequence_number);
        next.current_snapshot_id = Some(id);
        next.snapshot_log
            .push(SnapshotLogEntry { snapshot_id: id, timestamp_ms: snapshot.timestamp_ms });
        next.snapshots.push(snapshot);
        next.refs
            .entry(MAIN.to_owned())
            .or_insert_with(|| Reference {
                snapshot_id: id,
                kind: "branch".to_owned(),
                other: Map::new(),
            })
            .snapshot_id = id;

        let held: BTreeSet<i64> =
            next.refs.values().map(|reference| reference.snapshot_id).collect();
        let mut surplus = next.snapshots.len().saturating_sub(max_retained.max(1));
        next.snapshots.retain(|snapshot| {
            let old = surplus > 0;
            surplus = surplus.saturating_sub(1);
            !old || held.contains(&snapshot.snapshot_id)
        });
        next.trim_log();
        next
    }

    /// Without these snapshots, under the next sequence number: whoever holds the present one must lose the race. A snapshot
    /// that a branch or tag holds stays.
    #[must_use]
    pub fn without_snapshots(&self, ids: &BTreeSet<i64>, now_ms: i64) -> Self {
        let mut next = self.clone();
        let held: BTreeSet<i64> = next.refs.values().map(|r| r.snapshot_id).collect();
        next.snapshots.retain(|s| !ids.contains(&s.snapshot_id) || held.contains(&s.snapshot_id));
        next.trim_log();
        next.last_sequence_number = self.last_sequence_number.saturating_add(1);
        next.last_updated_ms = self.last_updated_ms.max(now_ms);
        next
    }

    /// The log must have no gaps: it starts after the last snapshot that is gone.
    fn trim_log(&mut self) {
        let kept: BTreeSet<i64> = self.snapshots.iter().map(|s| s.snapshot_id).collect();
        let gone = self.snapshot_log.iter().rposition(|entry| !kept.contains(&entry.snapshot_id));
        self.snapshot_log.drain(..gone.map_or(0, |last| last + 1));
    }

    /// With the file this metadata was read from in the log of earlier ones, of which the newest `max_logged` stay.
    /// Called before other changes: the entry's time is that of this metadata.
    #[must_use]
    pub fn with_previous_file(&self, metadata_file: impl Into<String>, max_logged: usize) -> Self {
        let mut next = self.clone();
        let entry = MetadataLogEntry {
            metadata_file: metadata_file.into(),
            timestamp_ms: self.last_updated_ms,
        };
        next.metadata_log.push(entry);
        next.metadata_log.drain(..next.metadata_log.len().saturating_sub(max_logged));
        next
    }

    pub fn to_json(&self) -> Result<Vec<u8>, FormatError> {
        serde_json::to_vec(self).map_err(FormatError::json("the table metadata"))
    }

    pub fn from_json(json: &[u8]) -> Result<Self, FormatError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Versioned {
            format_version: i32,
        }
        let parsed = serde_json::from_slice::<Self>(json);
        // The fields of another version need not be these: of the two reasons its version is the better one.
        let version = match &parsed {
            Ok(metadata) => Some(metadata.format_version),
            Err(_) => serde_json::from_slice(json).ok().map(|v: Versioned| v.format_version),
        };
        if let Some(other) = version.filter(|version| *version != VERSION) {
            return Err(FormatError::unsupported("format version", other.to_string()));
        }
        let mut metadata = parsed.map_err(FormatError::json("the table metadata"))?;
        // Older writers say -1 for none.
        metadata.current_snapshot_id = metadata.current_snapshot_id.filter(|id| *id != -1);
        if metadata.current_snapshot_id.is_some() && metadata.current_snapshot().is_none() {
            return Err(FormatError::Missing { field: "the current snapshot" });
        }
        if metadata.current_schema().is_none() {
            return Err(FormatError::Missing { field: "the current schema" });
        }
        if metadata.default_spec().is_none() {
            return Err(FormatError::Missing { field: "the default partition spec" });
        }
        Ok(metadata)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::manifest::tests::{schema, spec};
    use super::super::schema::Transform;
    use super::*;

    fn table() -> TableMetadata {
        TableMetadata::new(
            "9c12d441-03fe-4693-9a96-a0705ddf69c1",
            "s3://lake/t",
            schema(),
            spec(Transform::Day),
            1000,
        )
    }

    fn snapshot(n: i64) -> Snapshot {
        Snapshot {
            snapshot_id: 100 + n,
            parent_snapshot_id: (n > 1).then_some(99 + n),
            sequence_number: n,
            timestamp_ms: 1000 + n,
            manifest_list: format!("s3://lake/t/metadata/snap-{n}.avro"),
            summary: BTreeMap::from([("operation".to_owned(), "append".to_owned())]),
            schema_id: Some(4),
        }
    }

    fn ids(table: &TableMetadata) -> (Vec<i64>, Vec<i64>) {
        let snapshots = table.snapshots.iter().map(|s| s.snapshot_id).collect();
        (snapshots, table.snapshot_log.iter().map(|e| e.snapshot_id).collect())
    }

    #[test]
    fn a_new_table_is_empty_and_reads_back() {
        let table = table();
        let json = String::from_utf8(table.to_json().unwrap()).unwrap();
        assert_eq!(
            json,
            r#"{"format-version":2,"table-uuid":"9c12d441-03fe-4693-9a96-a0705ddf69c1","location":"s3://lake/t","last-sequence-number":0,"last-updated-ms":1000,"last-column-id":2,"schemas":[{"type":"struct","schema-id":4,"fields":[{"id":1,"name":"time","required":false,"type":"timestamptz"},{"id":2,"name":"carrier","required":false,"type":"string"}]}],"current-schema-id":4,"partition-specs":[{"spec-id":3,"fields":[{"source-id":1,"field-id":1000,"name":"time-part","transform":"day"}]}],"default-spec-id":3,"last-partition-id":1000,"properties":{},"snapshots":[],"snapshot-log":[],"metadata-log":[],"sort-orders":[{"order-id":0,"fields":[]}],"default-sort-order-id":0,"refs":{}}"#
        );
        assert_eq!(TableMetadata::from_json(json.as_bytes()).unwrap(), table);
        assert_eq!(table.current_snapshot(), None);
    }

    #[test]
    fn snapshots_follow_one_another_and_the_oldest_go() {
        let mut table = table();
        for n in 1..=5 {
            table = table.with_snapshot(snapshot(n), 3);
        }
        assert_eq!(ids(&table), (vec![103, 104, 105], vec![103, 104, 105]));
        assert_eq!(table.current_snapshot(), Some(&snapshot(5)));
        assert_eq!((table.last_sequence_number, table.last_updated_ms), (5, 1005));
        assert_eq!(table.refs[MAIN].snapshot_id, 105);
        assert_eq!(TableMetadata::from_json(&table.to_json().unwrap()).unwrap(), table);
        assert_eq!(ids(&table.with_snapshot(snapshot(6), 0)).0, [106]);
    }

    #[test]
    fn a_tag_holds_its_snapshot() {
        let mut table = table().with_snapshot(snapshot(1), 9);
        let tag = Reference { snapshot_id: 101, kind: "tag".to_owned(), other: Map::new() };
        table.refs.insert("audit".to_owned(), tag);
        let table = table.with_snapshot(snapshot(2), 1).with_snapshot(snapshot(3), 1);
        assert_eq!(ids(&table), (vec![101, 103], vec![103]));
    }

    #[test]
    fn time_never_goes_back() {
        let table = table().with_snapshot(snapshot(50), 9);
        let table = table.with_snapshot(Snapshot { timestamp_ms: 3, ..snapshot(51) }, 9);
        assert_eq!(table.current_snapshot().unwrap().timestamp_ms, 1050);
        assert_eq!(table.last_updated_ms, 1050);
    }

    #[test]
    fn a_schema_is_its_fields() {
        let table = table();
        let mut wider = schema();
        wider.fields[0].id = 9;
        // The id 4 is taken, so it becomes 5.
        let wide = table.with_schema(wider.clone());
        assert_eq!((wide.current_schema_id, wide.last_column_id, wide.schemas.len()), (5, 9, 2));
        let again = wide.with_schema(Schema { id: 77, ..wider });
        assert_eq!((again.current_schema_id, again.schemas.len()), (5, 2));
        let back = again.with_schema(schema());
        assert_eq!((back.current_schema_id, back.last_column_id, back.schemas.len()), (4, 9, 2));
    }

    #[test]
    fn the_metadata_log_keeps_the_newest() {
        let mut table = table();
        for n in 1..=4 {
            table = table
                .with_previous_file(format!("{n}.metadata.json"), 2)
                .with_snapshot(snapshot(n), 9);
        }
        let log: Vec<_> =
            table.metadata_log.iter().map(|e| (e.metadata_file.as_str(), e.timestamp_ms)).collect();
        assert_eq!(log, [("3.metadata.json", 1002), ("4.metadata.json", 1003)]);
    }

    #[test]
    fn unknown_keys_survive_and_unknown_versions_do_not() {
        let mut value: Value = serde_json::from_slice(&table().to_json().unwrap()).unwrap();
        value["statistics"] = json!([{"snapshot-id": i64::MAX}]);
        value["current-snapshot-id"] = json!(-1);
        let table = TableMetadata::from_json(value.to_string().as_bytes()).unwrap();
        assert_eq!(table.current_snapshot_id, None);
        let again: Value = serde_json::from_slice(&table.to_json().unwrap()).unwrap();
        assert_eq!(again["statistics"], value["statistics"]);
        for (key, wrong) in [
            ("format-version", json!(3)),
            ("current-schema-id", json!(9)),
            ("default-spec-id", json!(9)),
            ("current-snapshot-id", json!(9)),
        ] {
            let mut broken = value.clone();
            broken[key] = wrong;
            assert!(TableMetadata::from_json(broken.to_string().as_bytes()).is_err(), "{key}");
        }
    }

    proptest! {
        #[test]
        fn damaged_metadata_ends_in_a_value(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut json = table().with_snapshot(snapshot(1), 9).to_json().unwrap();
            for (at, value) in damage {
                let at = at.index(json.len());
                json[at] = value;
            }
            let _ = TableMetadata::from_json(&json);
        }
    }
}
