//! An Iceberg table over just a held proposal's files, so that any engine can look at them before anybody decides.
//!
//! Guarantees: pure, and apart from the published table, which it neither reads nor touches. Its names carry the attempt, so
//! an attempt that was killed is in nobody's way; its pointer is created last, and once. It has one snapshot, for ever.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sluicegate_contract::{Contract, Version};
use sluicegate_lake::{Dataset, RawId};
use uuid::Uuid;

use crate::iceberg::FormatError;
use crate::iceberg::list::{self, ManifestFile};
use crate::iceberg::manifest::{self, DataFile, Entry, Status};
use crate::iceberg::metadata::Snapshot;
use crate::write::{new_table, snapshot_id};

/// Whose files a preview shows.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub dataset: &'a Dataset,
    pub raw_id: &'a RawId,
    pub contract: &'a Contract,
    pub version: &'a Version,
    pub files: &'a [DataFile],
}

/// The objects of a preview, by their names below the table's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// In any order.
    pub objects: Vec<(String, Vec<u8>)>,
    /// After all others.
    pub pointer: (String, Vec<u8>),
}

/// The preview of some data files, at the URI `root`.
pub fn preview(
    subject: Subject<'_>,
    root: &str,
    attempt: Uuid,
    now: Timestamp,
) -> Result<Preview, FormatError> {
    let Subject { dataset, raw_id, contract, version, files } = subject;
    let mut metadata = new_table(dataset, attempt, root.to_owned(), contract, version, now);
    metadata.properties.insert("sluicegate.raw-id".to_owned(), raw_id.to_string());
    let snapshot_id = snapshot_id(attempt);
    let entries: Vec<Entry> = files
        .iter()
        .map(|file| Entry {
            status: Status::Added,
            snapshot_id,
            sequence_number: 1,
            file_sequence_number: 1,
            file: file.clone(),
        })
        .collect();
    let schema = metadata.current_schema().ok_or(FormatError::Missing { field: "schema" })?;
    let spec = metadata.default_spec().ok_or(FormatError::Missing { field: "partition spec" })?;
    let manifest = manifest::write(schema, spec, &entries)?;
    let manifest_name = format!("metadata/{attempt}-m0.avro");
    let path = format!("{root}/{manifest_name}");
    let length = manifest.len() as u64;
    let described = ManifestFile::describe(path, length, spec, &entries, snapshot_id, 1);
    let list_name = format!("metadata/snap-{snapshot_id}-{attempt}.avro");
    let list = list::write(snapshot_id, None, 1, &[described])?;
    let total = |of: fn(&DataFile) -> u64| files.iter().map(of).sum::<u64>().to_string();
    let summary = [
        ("operation", "append".to_owned()),
        ("total-data-files", files.len().to_string()),
        ("total-records", total(|f| f.rows)),
        ("total-files-size", total(|f| f.bytes)),
    ];
    let snapshot = Snapshot {
        snapshot_id,
        parent_snapshot_id: None,
        sequence_number: 1,
        timestamp_ms: now.as_millisecond(),
        manifest_list: format!("{root}/{list_name}"),
        summary: BTreeMap::from(summary.map(|(key, value)| (key.to_owned(), value))),
        schema_id: Some(metadata.current_schema_id),
    };
    let name = format!("00001-{attempt}");
    let metadata = metadata.with_snapshot(snapshot, 1).to_json()?;
    Ok(Preview {
        objects: vec![
            (manifest_name, manifest),
            (list_name, list),
            (format!("metadata/{name}.metadata.json"), metadata),
        ],
        pointer: ("metadata/version-hint.text".to_owned(), name.into_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::iceberg::metadata::TableMetadata;

    #[test]
    fn a_preview_reads_back_as_a_table_of_just_these_files() {
        let document = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "required": ["at"],
            "properties": {"at": {"type": "string", "format": "date-time"}},
            "x-sluicegate": {
                "version": "1.0.0", "team": {"name": "t"}, "format": {"type": "csv"},
                "event_time": {"column": "at"},
            },
        });
        let version = Version::next(document.to_string().as_bytes(), None, "u").unwrap().unwrap();
        let contract = version.contract().unwrap();
        let dataset = "flights".parse().unwrap();
        let raw_id = RawId::new(Timestamp::UNIX_EPOCH, "b", "k", "v");
        let file = |n: i32| DataFile::new(format!("s3://lake/data/{n}"), Some(15_706 + n), 7, 100);
        let files = [0, 1].map(file);
        let subject = Subject {
            dataset: &dataset,
            raw_id: &raw_id,
            contract: &contract,
            version: &version,
            files: &files,
        };
        let attempt = Uuid::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0);
        let root = "s3://lake/staging/table";
        let preview = preview(subject, root, attempt, Timestamp::UNIX_EPOCH).unwrap();
        let object = |path: &str| {
            let name = path.strip_prefix("s3://lake/staging/table/").unwrap();
            let found = preview.objects.iter().find(|(n, _)| n == name);
            found.map(|(_, bytes)| bytes.clone()).unwrap()
        };
        let hint = String::from_utf8(preview.pointer.1.clone()).unwrap();
        let metadata = object(&format!("{root}/metadata/{hint}.metadata.json"));
        let metadata = TableMetadata::from_json(&metadata).unwrap();
        assert_eq!(metadata.location, root);
        let names = metadata.current_schema().unwrap().fields.iter().map(|f| f.name.clone());
        assert_eq!(names.collect::<Vec<_>>()[0], "at");
        let snapshot = metadata.current_snapshot().unwrap();
        assert_eq!(snapshot.summary["total-records"], "14");
        let listed = list::read(&object(&snapshot.manifest_list)).unwrap();
        assert_eq!((listed.len(), listed[0].added_rows), (1, 14));
        assert_eq!(listed[0].spec_id, metadata.default_spec_id);
        let entries = manifest::read(&object(&listed[0].path)).unwrap();
        assert_eq!(entries.into_iter().map(|e| e.file).collect::<Vec<_>>(), files);
    }
}
