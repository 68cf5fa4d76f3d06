#![no_main]
//! Any bytes as JSON Lines.

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use sluicegate_fuzz::Subject;

static SUBJECT: LazyLock<Subject> =
    LazyLock::new(|| Subject::new(json!({"type": "jsonl", "line_limit": 2000})));

fuzz_target!(|bytes: &[u8]| SUBJECT.check(bytes));
