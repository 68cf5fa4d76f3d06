#![no_main]
//! Any bytes as what the lake keeps: proposals, decisions, pages, pointers, and the table's own files.

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluicegate_contract::{ContractPointer, Version};
use sluicegate_fuzz::{reread, text};
use sluicegate_table::iceberg::manifest::Entry;
use sluicegate_table::iceberg::metadata::{Snapshot, TableMetadata};
use sluicegate_table::iceberg::schema::{PartitionField, PartitionSpec, Schema, Transform};
use sluicegate_table::iceberg::{list, manifest};
use sluicegate_table::report::Report;
use sluicegate_table::tree::Root;
use sluicegate_table::{Decision, Ledger, PartitionBy, Proposal, Record};

/// What the bytes say, which is the same when it is written and read.
fn stored<T: DeserializeOwned + Serialize + Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    assert_eq!(text(&reread(&value)), text(&value));
    Some(value)
}

fn proposal(proposal: &Proposal) {
    let record = Record::of(proposal);
    let _ = (record.awaits_decision(), record.was_published());
    assert!(record.upload_rank() == reread(&record).upload_rank());
    for file in &proposal.files {
        let _ = PartitionBy::path(proposal.partition_by.as_ref(), file.partition);
        if let (Some(by), Some(value)) = (&proposal.partition_by, file.partition) {
            let _ = by.end(value);
        }
    }
    let report = Report::of(proposal, None, "s3://lake/");
    assert!(!report.markdown().is_empty() && report.html().contains("</html>"));
}

fn metadata(table: &TableMetadata) {
    let json = table.to_json().expect("what was read can be written");
    assert_eq!(&TableMetadata::from_json(&json).expect("what was written can be read"), table);
    let snapshot = Snapshot {
        snapshot_id: 1,
        parent_snapshot_id: table.current_snapshot_id,
        sequence_number: 2,
        timestamp_ms: 3,
        manifest_list: "l".to_owned(),
        summary: [("operation".to_owned(), "append".to_owned())].into(),
        schema_id: None,
    };
    let schema = table.current_schema().expect("a table has a schema").clone();
    let spec = table.default_spec().expect("a table has a spec").clone();
    let next = table.with_previous_file("m", 3).with_schema(schema).with_spec(spec.fields);
    let next = next.with_snapshot(snapshot, 3);
    let json = next.to_json().expect("what was changed can be written");
    assert_eq!(TableMetadata::from_json(&json).expect("it still holds together"), next);
}

fn manifest(entries: &[Entry]) {
    let schema = Schema { id: 0, fields: Vec::new() };
    let field = PartitionField {
        source_id: 1,
        field_id: 1000,
        name: "p".to_owned(),
        transform: Transform::Day,
    };
    let spec = PartitionSpec { id: 0, fields: vec![field] };
    let written = manifest::write(&schema, &spec, entries).expect("what was read can be written");
    assert_eq!(manifest::read(&written).expect("what was written can be read"), entries);
}

fuzz_target!(|bytes: &[u8]| {
    if let Some(read) = stored::<Proposal>(bytes) {
        proposal(&read);
    }
    stored::<Decision>(bytes);
    stored::<Ledger>(bytes);
    stored::<ContractPointer>(bytes);
    if let Some(version) = stored::<Version>(bytes) {
        let _ = version.contract();
    }
    if let Some(root) = stored::<Root>(bytes) {
        for page in &root.pages {
            let _ = root.pages_for([&page.first, &page.last]);
        }
    }
    if let Ok(table) = TableMetadata::from_json(bytes) {
        metadata(&table);
    }
    if let Ok(entries) = manifest::read(bytes) {
        manifest(&entries);
    }
    if let Ok(manifests) = list::read(bytes) {
        let written = list::write(1, None, 1, &manifests).expect("what was read can be written");
        assert_eq!(list::read(&written).expect("what was written can be read"), manifests);
    }
});
