//! Manifest lists: one per snapshot, naming its manifests with what lets a reader skip them.
//!
//! Guarantees: the sums and bounds of [`ManifestFile::describe`] cover every entry, deleted ones included, so a skipped
//! manifest holds nothing that was asked for. Fails (`Unsupported`) on lists that name delete manifests.

use std::sync::LazyLock;

use super::FormatError;
use super::avro::{self, Container, Decoder, Encoder, Shape};
use super::manifest::{Entry, Status};
use super::schema::PartitionSpec;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFile {
    pub path: String,
    pub length: u64,
    pub spec_id: i32,
    /// That of the snapshot that added the manifest; a later snapshot's list repeats it.
    pub sequence_number: i64,
    /// The least data sequence number among live entries.
    pub min_sequence_number: i64,
    pub added_snapshot_id: i64,
    pub added_files: u32,
    pub existing_files: u32,
    pub deleted_files: u32,
    pub added_rows: u64,
    pub existing_rows: u64,
    pub deleted_rows: u64,
    /// The least and greatest partition value; `None` without partitions or where all are null.
    pub partition_bounds: Option<(i32, i32)>,
    /// Whether an entry of a partitioned table has no partition value.
    pub null_partition: bool,
}

impl ManifestFile {
    /// What a list says of the manifest just written from `entries`.
    pub fn describe<'a>(
        path: impl Into<String>,
        length: u64,
        spec: &PartitionSpec,
        entries: impl IntoIterator<Item = &'a Entry>,
        snapshot_id: i64,
        sequence_number: i64,
    ) -> Self {
        let mut this = Self {
            path: path.into(),
            length,
            spec_id: spec.id,
            sequence_number,
            min_sequence_number: sequence_number,
            added_snapshot_id: snapshot_id,
            added_files: 0,
            existing_files: 0,
            deleted_files: 0,
            added_rows: 0,
            existing_rows: 0,
            deleted_rows: 0,
            partition_bounds: None,
            null_partition: false,
        };
        for entry in entries {
            let (files, rows) = match entry.status {
                Status::Existing => (&mut this.existing_files, &mut this.existing_rows),
                Status::Added => (&mut this.added_files, &mut this.added_rows),
                Status::Deleted => (&mut this.deleted_files, &mut this.deleted_rows),
            };
            *files = files.saturating_add(1);
            *rows = rows.saturating_add(entry.file.rows);
            if entry.status != Status::Deleted {
                this.min_sequence_number = this.min_sequence_number.min(entry.sequence_number);
            }
            match (entry.file.partition, this.partition_bounds) {
                (None, _) => this.null_partition |= !spec.fields.is_empty(),
                (Some(value), None) => this.partition_bounds = Some((value, value)),
                (Some(value), Some((low, high))) => {
                    this.partition_bounds = Some((low.min(value), high.max(value)));
                }
            }
        }
        this
    }
}

/// The list of the snapshot `snapshot_id`.
pub fn write(
    snapshot_id: i64,
    parent: Option<i64>,
    sequence_number: i64,
    manifests: &[ManifestFile],
) -> Result<Vec<u8>, FormatError> {
    let metadata = [
        ("snapshot-id", &*snapshot_id.to_string()),
        ("parent-snapshot-id", &parent.map_or("null".to_owned(), |id| id.to_string())),
        ("sequence-number", &sequence_number.to_string()),
        ("format-version", "2"),
    ];
    avro::write(&SCHEMA, &metadata, manifests, encode)
}

pub fn read(bytes: &[u8]) -> Result<Vec<ManifestFile>, FormatError> {
    Container::open(bytes)?.records(decode)
}

/// The fields [`encode`] writes, in its order.
static SCHEMA: LazyLock<String> = LazyLock::new(|| {
    use avro::{array, optional, record, required};

    let summary = record(
        "r508",
        vec![
            required(509, "contains_null", "boolean"),
            optional(518, "contains_nan", "boolean"),
            optional(510, "lower_bound", "bytes"),
            optional(511, "upper_bound", "bytes"),
        ],
    );
    record(
        "manifest_file",
        vec![
            required(500, "manifest_path", "string"),
            required(501, "manifest_length", "long"),
            required(502, "partition_spec_id", "int"),
            required(517, "content", "int"),
            required(515, "sequence_number", "long"),
            required(516, "min_sequence_number", "long"),
            required(503, "added_snapshot_id", "long"),
            required(504, "added_files_count", "int"),
            required(505, "existing_files_count", "int"),
            required(506, "deleted_files_count", "int"),
            required(512, "added_rows_count", "long"),
            required(513, "existing_rows_count", "long"),
            required(514, "deleted_rows_count", "long"),
            optional(507, "partitions", array(508, summary)),
            optional(519, "key_metadata", "bytes"),
        ],
    )
    .to_string()
});

fn encode(e: &mut Encoder, manifest: &ManifestFile) -> Result<(), FormatError> {
    e.bytes(manifest.path.as_bytes())?;
    e.unsigned("manifest length", manifest.length)?;
    e.int(manifest.spec_id);
    e.int(0); // content: data
    e.long(manifest.sequence_number);
    e.long(manifest.min_sequence_number);
    e.long(manifest.added_snapshot_id);
    for files in [manifest.added_files, manifest.existing_files, manifest.deleted_files] {
        e.int(i32::try_from(files).map_err(|_| FormatError::range("file count", files))?);
    }
    for rows in [manifest.added_rows, manifest.existing_rows, manifest.deleted_rows] {
        e.unsigned("row count", rows)?;
    }
    // Null says that nothing is known and nothing may be skipped, which is also right for an empty manifest.
    let known = manifest.null_partition || manifest.partition_bounds.is_some();
    e.array(
        std::iter::repeat_n(manifest.partition_bounds.unzip(), known.into()),
        |e, (low, high)| {
            e.bool(manifest.null_partition);
            e.branch(true);
            e.bool(false); // contains_nan: integers are none
            for bound in [low, high] {
                e.branch(bound.is_some());
                if let Some(bound) = bound {
                    e.bytes(&bound.to_le_bytes())?;
                }
            }
            Ok(())
        },
    )?;
    e.branch(false); // key_metadata
    Ok(())
}

fn decode(d: &mut Decoder<'_>, shape: &Shape) -> Result<ManifestFile, FormatError> {
    let (mut path, mut length, mut spec_id, mut added_snapshot_id) = (None, None, None, None);
    // A list of version 1 has no sequence numbers; they count as 0.
    let (mut sequence_number, mut min_sequence_number) = (0, 0);
    let (mut files, mut rows) = ([None; 3], [None; 3]);
    let mut partitions = Vec::new();
    d.record(shape, |d, id, shape| {
        match id {
            500 => path = d.string(shape)?.map(str::to_owned),
            501 => length = d.unsigned(shape)?,
            502 => spec_id = d.int(shape)?,
            503 => added_snapshot_id = d.long(shape)?,
            504 => files[0] = d.unsigned(shape)?,
            505 => files[1] = d.unsigned(shape)?,
            506 => files[2] = d.unsigned(shape)?,
            507 => partitions = d.array(shape, decode_summary)?,
            512 => rows[0] = d.unsigned(shape)?,
            513 => rows[1] = d.unsigned(shape)?,
            514 => rows[2] = d.unsigned(shape)?,
            515 => sequence_number = d.long(shape)?.unwrap_or(0),
            516 => min_sequence_number = d.long(shape)?.unwrap_or(0),
            517 => match d.int(shape)? {
                None | Some(0) => {}
                Some(other) => {
                    return Err(FormatError::unsupported("manifest content", other.to_string()));
                }
            },
            _ => d.skip(shape)?,
        }
        Ok(())
    })?;
    let [added_files, existing_files, deleted_files] = files.map(|files| {
        let files = files.ok_or(FormatError::Missing { field: "file counts" })?;
        u32::try_from(files).map_err(|_| FormatError::range("file count", files))
    });
    let [added_rows, existing_rows, deleted_rows] =
        rows.map(|rows| rows.ok_or(FormatError::Missing { field: "row counts" }));
    let (null_partition, partition_bounds) = match partitions.as_slice() {
        [] => (false, None),
        [summary] => *summary,
        more => {
            return Err(FormatError::unsupported(
                "number of partition fields",
                more.len().to_string(),
            ));
        }
    };
    Ok(ManifestFile {
        path: path.ok_or(FormatError::Missing { field: "manifest_path" })?,
        length: length.ok_or(FormatError::Missing { field: "manifest_length" })?,
        spec_id: spec_id.ok_or(FormatError::Missing { field: "partition_spec_id" })?,
        sequence_number,
        min_sequence_number,
        added_snapshot_id: added_snapshot_id
            .ok_or(FormatError::Missing { field: "added_snapshot_id" })?,
        added_files: added_files?,
        existing_files: existing_files?,
        deleted_files: deleted_files?,
        added_rows: added_rows?,
        existing_rows: existing_rows?,
        deleted_rows: deleted_rows?,
        partition_bounds,
        null_partition,
    })
}

type Summary = (bool, Option<(i32, i32)>);

fn decode_summary(d: &mut Decoder<'_>, shape: &Shape) -> Result<Summary, FormatError> {
    let bound = |d: &mut Decoder<'_>, shape: &Shape| match d.bytes(shape)?.map(<[u8; 4]>::try_from)
    {
        None => Ok(None),
        Some(Ok(bytes)) => Ok(Some(i32::from_le_bytes(bytes))),
        Some(Err(_)) => Err(FormatError::unsupported("partition bound", "not four bytes")),
    };
    let (mut null, mut low, mut high) = (None, None, None);
    d.record(shape, |d, id, shape| {
        match id {
            509 => null = d.bool(shape)?,
            510 => low = bound(d, shape)?,
            511 => high = bound(d, shape)?,
            _ => d.skip(shape)?,
        }
        Ok(())
    })?;
    Ok((null.ok_or(FormatError::Missing { field: "contains_null" })?, low.zip(high)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::manifest::tests::{entry, spec};
    use super::super::schema::Transform;
    use super::*;

    fn manifests() -> Vec<ManifestFile> {
        let spec = spec(Transform::Day);
        let entries = [
            entry(5, Status::Added, Some(15706)),
            entry(3, Status::Existing, Some(-9)),
            entry(2, Status::Deleted, Some(20000)),
        ];
        let describe = |n: usize| {
            ManifestFile::describe(format!("m{n}.avro"), 99, &spec, entries.iter().take(n), -5, 8)
        };
        let null =
            ManifestFile::describe("null.avro", 1, &spec, [&entry(1, Status::Added, None)], 1, 1);
        let plain = PartitionSpec { id: 0, fields: Vec::new() };
        let flat =
            ManifestFile::describe("flat.avro", 1, &plain, [&entry(1, Status::Added, None)], 1, 1);
        vec![describe(0), describe(1), describe(3), null, flat]
    }

    #[test]
    fn a_description_sums_up_its_entries() {
        let all = manifests().into_iter().nth(2).unwrap();
        assert_eq!((all.added_files, all.existing_files, all.deleted_files), (1, 1, 1));
        assert_eq!((all.added_rows, all.existing_rows, all.deleted_rows), (105, 103, 102));
        assert_eq!(all.partition_bounds, Some((-9, 20000)));
        // The deleted entry is older, but gone.
        assert_eq!(
            (all.min_sequence_number, all.sequence_number, all.added_snapshot_id),
            (3, 8, -5)
        );
        assert_eq!(
            manifests().iter().map(|m| m.null_partition).collect::<Vec<_>>(),
            [false, false, false, true, false]
        );
    }

    #[test]
    fn lists_round_trip() {
        for parent in [None, Some(-3)] {
            assert_eq!(read(&write(12, parent, 8, &manifests()).unwrap()).unwrap(), manifests());
        }
        assert_eq!(read(&write(12, None, 8, &[]).unwrap()).unwrap(), []);
    }

    proptest! {
        #[test]
        fn damaged_lists_end_in_a_value(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = write(12, Some(3), 8, &manifests()).unwrap();
            for (at, value) in damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let _ = read(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            let _ = read(&bytes);
        }
    }
}
