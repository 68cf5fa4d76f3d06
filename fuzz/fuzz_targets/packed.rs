#![no_main]
//! Any bytes as gzip or zstd, by what they begin with; and packed by us, when they must be what they are unpacked.

use std::io::Write;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use sluicegate_audit::History;
use sluicegate_contract::Outcome;
use sluicegate_fuzz::{Subject, is_packed, says_of_rows};

static SUBJECT: LazyLock<Subject> =
    LazyLock::new(|| Subject::new(json!({"type": "jsonl", "line_limit": 2000})));

fuzz_target!(|bytes: &[u8]| {
    SUBJECT.check(bytes);
    if is_packed(bytes) || bytes.is_empty() {
        return;
    }
    let (plain, kept) = SUBJECT.audit(bytes, &History::default());
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(bytes, 1).unwrap();
    for packed in [gzip, zstd] {
        let (unpacked, kept_unpacked) = SUBJECT.audit(packed.as_slice(), &History::default());
        assert_eq!(says_of_rows(&plain), says_of_rows(&unpacked));
        assert_eq!(kept, kept_unpacked);
        // Cut short it is never whole.
        let short = &packed[..packed.len() - 1 - bytes.len() % (packed.len() - 1)];
        let (cut, _) = SUBJECT.audit(short, &History::default());
        assert!(short.len() < 4 || cut.verdict.outcome() == Outcome::Reject, "{short:?}");
    }
});
