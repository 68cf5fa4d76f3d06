#![no_main]
//! Any bytes as Parquet.

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use sluicegate_fuzz::Subject;

static SUBJECT: LazyLock<Subject> = LazyLock::new(|| Subject::new(json!({"type": "parquet"})));

fuzz_target!(|bytes: &[u8]| SUBJECT.check(bytes));
