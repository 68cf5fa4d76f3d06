#![no_main]
//! Any bytes as CSV. The length says which of a few formats, so that a file is its own whole case.

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use sluicegate_fuzz::Subject;

static SUBJECTS: LazyLock<[Subject; 4]> = LazyLock::new(|| {
    let limit = 2000;
    [
        Subject::new(json!({"type": "csv", "line_limit": limit})),
        Subject::new(json!({"type": "csv", "line_limit": limit, "null_tokens": ["", "NA"]})),
        Subject::new(json!({"type": "csv", "line_limit": limit, "header": false})),
        Subject::new(json!({
            "type": "csv", "line_limit": limit, "delimiter": ";", "quote": "'", "encoding": "latin-1",
        })),
    ]
});

fuzz_target!(|bytes: &[u8]| SUBJECTS[bytes.len() % 4].check(bytes));
