//! Every format that lies in a bucket or waits in a queue, as files that were once really written: `tests/golden/`.
//!
//! What an older version wrote is read for ever, and what is ours loses nothing when it is written again. A file is called
//! `<format>.v<version>.<extension>`; files of former versions stay as they are, those of the present one are rewritten by
//! `cargo test -p sluicegate-tests --test formats -- --ignored`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should stop, and say why"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use sluicegate_contract::ContractPointer;
use sluicegate_contract::lock::{self, Lock};
use sluicegate_lake::{Dataset, PlanId, RawId, Store, keys, list_all};
use sluicegate_runtime::{
    BatchResponse, Incoming, PromoteMessage, ReplayRequest, RunMessage, StageMessage, Summary,
    envelopes, uploads,
};
use sluicegate_table::held::{self, Request};
use sluicegate_table::iceberg::metadata::TableMetadata;
use sluicegate_table::iceberg::{list, manifest};
use sluicegate_table::replay::{Chunk, Plan, Progress};
use sluicegate_table::tree::Root;
use sluicegate_table::{Ledger, Proposal, Ruling, State, current_contract};
use sluicegate_tests::{World, s3_event, sqs_event};

/// A format: how it is told which version an object of it has, and where a newer writer may add fields.
struct Format {
    name: &'static str,
    extension: &'static str,
    first: u64,
    version: Versioned,
    open: &'static [&'static str],
}

enum Versioned {
    /// By this key of the object.
    Key(&'static str),
    /// Not by the object.
    Fixed(u64),
}

use Versioned::{Fixed, Key};

const fn format(
    name: &'static str,
    extension: &'static str,
    first: u64,
    version: Versioned,
    open: &'static [&'static str],
) -> Format {
    Format { name, extension, first, version, open }
}

/// The formats of S3 and of Iceberg count as their owners count them.
const FORMATS: [Format; 22] = [
    format("s3-event", "json", 2, Fixed(2), &["", "/Records/0", "/Records/0/s3/object"]),
    format("stage-message", "json", 1, Key("v"), &[""]),
    format("promote-message", "json", 1, Key("v"), &[""]),
    // People write them: a field that is not known is a mistake.
    format("replay-of-raw-ids", "json", 1, Fixed(1), &[]),
    format("replay-of-days", "json", 1, Fixed(1), &[]),
    format("replay-run", "json", 1, Key("v"), &[]),
    format("replay-plan", "json", 1, Key("v"), &["", "/receipt"]),
    format("replay-chunk", "json", 1, Key("v"), &["", "/objects/0"]),
    format("replay-progress", "json", 1, Key("v"), &[""]),
    format("proposal", "json", 1, Key("v"), PROPOSAL),
    format("decision", "json", 1, Key("v"), &[""]),
    format("contract-version", "json", 1, Key("v"), &[""]),
    format("contract-pointer", "json", 1, Key("v"), &[""]),
    format("contract-refusal", "json", 1, Key("v"), &[""]),
    // It lies beside its contract, and is made anew by the command that wrote it.
    format("contract-lock", "json", 1, Key("v"), &[]),
    format("table-pointer", "text", 1, Fixed(1), &[]),
    format("table-metadata", "json", 2, Key("format-version"), &["", "/snapshots/0"]),
    format("manifest-list", "avro", 2, Fixed(2), &[]),
    format("manifest", "avro", 2, Fixed(2), &[]),
    format("ledger-root", "json", 1, Key("v"), &["", "/pages/0"]),
    format("ledger-page", "json", 1, Key("v"), &["", "/records/0", "/records/0/receipt"]),
    format("change-list", "json", 1, Key("v"), &[""]),
];

const PROPOSAL: &[&str] = &[
    "",
    "/partition_by",
    "/verdict",
    "/verdict/coverage",
    "/audits/0",
    "/profile",
    "/profile/columns/0",
    "/amendments/0",
    "/files/0",
    "/receipt",
];

impl Format {
    fn of(name: &str) -> &'static Self {
        FORMATS.iter().find(|format| format.name == name).unwrap_or_else(|| panic!("{name}"))
    }

    fn version_of(&self, bytes: &[u8]) -> u64 {
        match self.version {
            Fixed(version) => version,
            Key(key) => {
                value(bytes)[key].as_u64().unwrap_or_else(|| panic!("{}: {key}", self.name))
            }
        }
    }

    fn file(&self, version: u64) -> String {
        format!("{}.v{version}.{}", self.name, self.extension)
    }

    /// The format and version that a golden file is called by.
    fn of_file(name: &str) -> Option<(&'static Self, u64)> {
        let (format, rest) = name.split_once(".v")?;
        let (version, extension) = rest.split_once('.')?;
        let format = FORMATS.iter().find(|f| (f.name, f.extension) == (format, extension))?;
        Some((format, version.parse().ok()?))
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// Every golden file by its name.
fn golden() -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap());
    let name = |file: &std::fs::DirEntry| file.file_name().into_string().unwrap();
    files.map(|file| (name(&file), std::fs::read(file.path()).unwrap())).collect()
}

/// The golden file of a format's newest version.
fn newest(name: &str) -> Vec<u8> {
    let of = |file: &str| Format::of_file(file).filter(|(f, _)| f.name == name).map(|(_, v)| v);
    let files = golden().into_iter().filter_map(|(file, bytes)| Some((of(&file)?, bytes)));
    files.max_by_key(|(version, _)| *version).unwrap_or_else(|| panic!("no {name}")).1
}

fn value(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A value as a type has it, and as that type is written again.
macro_rules! as_a {
    ($type:ty, $bytes:expr) => {
        match serde_json::from_slice::<$type>($bytes) {
            Ok(read) => Ok(Some(serde_json::to_value(&read).unwrap())),
            Err(error) => Err(error.to_string()),
        }
    };
}

/// The message in a body, as a function takes it from its batch, and as it is sent again.
macro_rules! as_message {
    ($type:ty, $bytes:expr) => {{
        let mut response = BatchResponse::default();
        let event = sqs_event(&[text($bytes)]);
        let mut summary = Summary::new("formats", "r");
        let read = envelopes::<$type>(event, &mut response, &mut summary).unwrap();
        match read.as_slice() {
            [one] => Ok(Some(serde_json::to_value(&one.message).unwrap())),
            _ => Err(summary.outcomes.failures.to_string()),
        }
    }};
}

/// Reads an object as production does; answers with what it is when it is written again, where that is ours to do.
async fn read(name: &str, bytes: &[u8]) -> Result<Option<Value>, String> {
    let world = World::default();
    let dataset = dataset();
    match name {
        "s3-event" => match uploads(value(bytes)).as_slice() {
            [Incoming::Upload(_)] => Ok(None),
            other => Err(format!("{other:?}")),
        },
        "stage-message" => as_message!(StageMessage, bytes),
        "promote-message" => as_message!(PromoteMessage, bytes),
        "replay-of-raw-ids" | "replay-of-days" => as_a!(ReplayRequest, bytes).map(|_| None),
        "replay-run" => as_message!(RunMessage, bytes),
        "replay-plan" => as_a!(Plan, bytes),
        "replay-chunk" => as_a!(Chunk, bytes),
        "replay-progress" => as_a!(Progress, bytes),
        "proposal" | "decision" => {
            let proposal = if name == "proposal" { bytes.to_vec() } else { newest("proposal") };
            let staged: Proposal = serde_json::from_slice(&proposal).map_err(|e| e.to_string())?;
            let Proposal { dataset, raw_id, order, .. } = &staged;
            world.lake.upload(&keys::proposal(dataset, raw_id, *order), proposal);
            if name == "decision" {
                world.lake.upload(&keys::decision(dataset, raw_id, *order), bytes.to_vec());
            }
            let read = held::evidence(&world.lake, dataset, raw_id).await;
            let read = read.map_err(|e| e.to_string())?.unwrap();
            Ok(Some(match name {
                "proposal" => serde_json::to_value(read.proposal).unwrap(),
                _ => serde_json::to_value(read.decision.unwrap()).unwrap(),
            }))
        }
        "contract-version" | "contract-pointer" => {
            let of = |format: &str| if name == format { bytes.to_vec() } else { newest(format) };
            let pointer = of("contract-pointer");
            let names: ContractPointer =
                serde_json::from_slice(&pointer).map_err(|e| e.to_string())?;
            world.lake.upload(&keys::contract_pointer(&dataset), pointer);
            world.lake.upload(&keys::contract(&dataset, &names.name), of("contract-version"));
            let read = current_contract(&world.lake, &dataset).await;
            let (_, version) = read.map_err(|e| e.to_string())?.unwrap();
            version.contract().map_err(|e| e.to_string())?;
            Ok(Some(match name {
                "contract-version" => serde_json::to_value(version).unwrap(),
                _ => serde_json::to_value(names).unwrap(),
            }))
        }
        // Nothing of ours reads them: what matters is that they say who was refused, and why.
        "contract-refusal" => {
            let refusal = value(bytes);
            let upload = refusal["upload"].as_str().unwrap_or_default().parse::<RawId>();
            upload.map_err(|e| e.to_string())?;
            let says = |key: &str| refusal[key].is_array();
            let whole = refusal["why"].is_string() && says("findings") && says("breaking");
            if whole { Ok(None) } else { Err(refusal.to_string()) }
        }
        "change-list" => {
            let changes = value(bytes);
            let whole = changes["number"].is_i64() && changes["partitions"].is_array();
            if whole { Ok(None) } else { Err(changes.to_string()) }
        }
        "contract-lock" => {
            let document = value(&newest("contract-version"))["document"].to_string();
            lock::verify(document.as_bytes(), &text(bytes)).map_err(|e| e.to_string())?;
            as_a!(Lock, bytes)
        }
        "table-pointer" => {
            world.lake.upload(&keys::table_pointer(&dataset), bytes.to_vec());
            let request = value(&newest("replay-of-days"));
            let read = world.replay.handle(request, &mut Summary::new("replay", "r")).await;
            let number = read.map_err(|e| e.to_string())?["epoch"].clone();
            let numbered = text(bytes).starts_with(&format!("{:05}-", number.as_i64().unwrap()));
            if numbered { Ok(None) } else { Err(number.to_string()) }
        }
        "table-metadata" => {
            let read = TableMetadata::from_json(bytes).map_err(|e| e.to_string())?;
            Ok(Some(value(&read.to_json().unwrap())))
        }
        "manifest-list" => {
            let read = list::read(bytes).map_err(|e| e.to_string())?;
            let again = list::write(1, None, 1, &read).unwrap();
            assert_eq!(list::read(&again).unwrap(), read);
            Ok(None)
        }
        "manifest" => {
            let read = manifest::read(bytes).map_err(|e| e.to_string())?;
            let table = TableMetadata::from_json(&newest("table-metadata")).unwrap();
            let (schema, spec) = (table.current_schema().unwrap(), table.default_spec().unwrap());
            let again = manifest::write(schema, spec, &read).unwrap();
            assert_eq!(manifest::read(&again).unwrap(), read);
            Ok(None)
        }
        "ledger-root" => as_a!(Root, bytes),
        "ledger-page" => as_a!(Ledger, bytes),
        other => panic!("nobody reads {other}"),
    }
}

/// Where `again` says less or something else than `golden`; what it says beyond is what a newer version added.
fn lost(at: &str, golden: &Value, again: &Value) -> Option<String> {
    match (golden, again) {
        (Value::Object(golden), Value::Object(again)) => golden.iter().find_map(|(key, value)| {
            let at = format!("{at}/{key}");
            match again.get(key) {
                Some(again) => lost(&at, value, again),
                None => Some(at),
            }
        }),
        (Value::Array(golden), Value::Array(again)) if golden.len() == again.len() => {
            let pairs = golden.iter().zip(again).enumerate();
            pairs.into_iter().find_map(|(i, (g, a))| lost(&format!("{at}/{i}"), g, a))
        }
        _ => (golden != again).then(|| format!("{at}: {golden} became {again}")),
    }
}

#[tokio::test]
async fn what_any_version_wrote_is_read_and_loses_nothing_when_it_is_written_again() {
    for (file, bytes) in golden() {
        let (format, version) =
            Format::of_file(&file).unwrap_or_else(|| panic!("{file} is of no format"));
        assert_eq!(format.version_of(&bytes), version, "{file}");
        let again = read(format.name, &bytes).await.unwrap_or_else(|e| panic!("{file}: {e}"));
        if let Some(again) = again {
            assert_eq!(lost("", &value(&bytes), &again), None, "{file}");
        }
    }
}

#[tokio::test]
async fn every_version_up_to_todays_has_a_golden_file() {
    let golden = golden();
    let today = written_today().await;
    for format in &FORMATS {
        let written = today.get(format.name);
        let written = written.unwrap_or_else(|| panic!("no {} was written", format.name));
        for version in format.first..=format.version_of(written) {
            let file = format.file(version);
            assert!(golden.contains_key(&file), "{file} is missing: see the head of this file");
        }
    }
}

#[tokio::test]
async fn a_field_that_a_newer_writer_adds_is_no_error() {
    for (file, bytes) in golden() {
        let (format, _) = Format::of_file(&file).unwrap();
        for open in format.open {
            let mut newer = value(&bytes);
            let place = newer.pointer_mut(open).unwrap_or_else(|| panic!("{file} has no {open}"));
            place["added_by_a_newer_writer"] = json!({"v": 9});
            let newer = newer.to_string().into_bytes();
            read(format.name, &newer).await.unwrap_or_else(|e| panic!("{file}, {open}: {e}"));
        }
    }
}

#[tokio::test]
async fn the_golden_table_is_read_whole_from_its_pointer() {
    let world = World::default();
    let place = |name: &str, bytes: Vec<u8>| {
        world.lake.upload(&keys::metadata(&dataset(), name), bytes);
    };
    let base = world.lake.uri(&keys::metadata(&dataset(), ""));
    let below = |path: &str| path.strip_prefix(&base).unwrap().to_owned();
    let pointer = newest("table-pointer");
    let metadata = TableMetadata::from_json(&newest("table-metadata")).unwrap();
    let snapshot = metadata.current_snapshot().unwrap();
    let manifests = list::read(&newest("manifest-list")).unwrap();
    let root: Root = serde_json::from_slice(&newest("ledger-root")).unwrap();
    place(&format!("{}.metadata.json", text(&pointer)), newest("table-metadata"));
    place("version-hint.text", pointer);
    place(&below(&snapshot.manifest_list), newest("manifest-list"));
    place(&snapshot.summary["sluicegate.ledger"], newest("ledger-root"));
    place(&below(&manifests[0].path), newest("manifest"));
    place(&root.pages[0].ledger, newest("ledger-page"));

    let view = world.view(dataset().as_str()).await;
    assert_eq!((view.number(), manifests.len(), root.pages.len()), (6, 1, 1));
    let states: Vec<_> = view.ledger.records.values().map(|r| r.state).collect();
    use State::{Published, Rejected, Superseded};
    assert_eq!(states, [Superseded, Published, Published, Published, Rejected, Published]);
    assert_eq!(view.files.len(), 4);
    let rows: u64 = view.files.values().map(|(_, entry)| entry.file.rows).sum();
    assert_eq!(snapshot.summary["total-records"], rows.to_string());
}

fn dataset() -> Dataset {
    "orders".parse().unwrap()
}

fn contract(version: &str, maximum: u32) -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "orders",
        "type": "object",
        "x-sluicegate": {
            "version": version,
            "team": {"name": "Shop", "contact": "shop@example.com"},
            "format": {"type": "csv", "delimiter": ",", "header": true, "null_tokens": [""]},
            "event_time": {"column": "at", "grain": "day"},
            "key": ["id"],
            "lateness": {"allowed": "P1D"},
            "bad_rows": {"max_fraction": 0.4},
            "reupload": "replace",
            "unknown_fields": "keep",
            "audits": [{"id": "some", "audit": "row_count", "min": 1}],
        },
        "required": ["id", "amount", "at"],
        "properties": {
            "id": {"type": "integer", "minimum": 1},
            "amount": {"type": "number", "minimum": 0, "maximum": maximum},
            "note": {"type": ["string", "null"]},
            "at": {"type": "string", "format": "date-time"},
        },
    })
}

/// A file of a few orders of a day; those of `amount` 9,999 break the contract, and `channel` is a field that it does not know.
fn orders(amounts: &[u32], day: &str) -> String {
    let row = |(n, amount): (usize, &u32)| format!("{},{amount},,{day}T12:00:00Z,web\n", n + 1);
    let rows: String = amounts.iter().enumerate().map(row).collect();
    format!("id,amount,note,at,channel\n{rows}")
}

/// An object of every format as the pipeline writes it today, in the life of a dataset that meets all that may happen: a file
/// with a bad row, one that is held and released, one that cannot be read, one that is late, and one that is corrected.
async fn written_today() -> BTreeMap<&'static str, Vec<u8>> {
    let (world, dataset) = (World::default(), dataset());
    let mut written: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    let document = contract("1.0.0", 1000).to_string();
    written.insert("contract-lock", lock::lock(document.as_bytes()).unwrap().to_text().into());
    world.upload("_contracts/orders.json", document).await;
    let narrower = contract("1.1.0", 100).to_string();
    let refused = world.upload("_contracts/orders.json", narrower).await;

    world.wait(1);
    let key = "orders/2013/a b.csv";
    let meta = world.upload(key, orders(&[1, 2, 9_999], "2013-01-01")).await;
    written.insert("s3-event", s3_event(key, &meta).to_string().into());
    let [message] = world.queue("stage").drain().try_into().unwrap();
    world.deliver("stage", std::slice::from_ref(&message)).await;
    written.insert("stage-message", message.into());
    let [message] = world.queue("promote").drain().try_into().unwrap();
    world.deliver("promote", std::slice::from_ref(&message)).await;
    let first: PromoteMessage = serde_json::from_str(&message).unwrap();
    written.insert("promote-message", message.into());

    world.wait(1);
    world.upload("orders/held.csv", orders(&[3, 9_999, 9_999], "2013-01-01")).await;
    let failed = world.settle().await;
    assert_eq!(failed, Vec::<String>::new());
    let held = world.records("orders", "held.csv").await.remove(0);
    let (raw_id, order) = (&held.raw_id, held.order);
    let ruling = Ruling::Released;
    let request =
        Request { raw_id, order: Some(order), ruling, by: "ann", why: "the shop was closed" };
    held::decide(&world.lake, &*world.ambient, &dataset, &request).await.unwrap();
    let again = PromoteMessage {
        source: held.source.clone(),
        raw_id: raw_id.clone(),
        order,
        ..first.clone()
    };
    let again = serde_json::to_string(&again).unwrap();
    assert_eq!(world.deliver("promote", &[again]).await, Vec::<String>::new());

    for (name, rows) in [
        ("new.csv", orders(&[4, 5], "2013-01-02")),
        ("late.csv", orders(&[6], "2012-12-20")),
        ("no.csv", "\"".to_owned()),
        ("2013/a b.csv", orders(&[1, 7], "2013-01-01")),
    ] {
        world.wait(1);
        world.upload(&format!("orders/{name}"), rows).await;
        if name != "no.csv" {
            assert_eq!(world.settle().await, Vec::<String>::new());
        }
    }

    let replays = [
        ("replay-of-raw-ids", json!({"dataset": dataset, "raw_ids": [first.raw_id]})),
        (
            "replay-of-days",
            json!({"dataset": dataset, "landed_from": "2013-01-02", "landed_to": "2013-01-02"}),
        ),
    ];
    for (name, request) in replays {
        let mut summary = Summary::new("replay", "r");
        world.replay.handle(request.clone(), &mut summary).await.unwrap();
        written.insert(name, request.to_string().into());
    }

    let get = async |key: &str| world.lake.get(key).await.unwrap().1.to_vec();
    let ask = async |request: Value| {
        world.replay.handle(request, &mut Summary::new("replay", "r")).await.unwrap()
    };
    let ids = json!([first.raw_id]);
    let answer = ask(json!({"plan": true, "dataset": dataset, "raw_ids": ids})).await;
    let plan: PlanId = answer["plan"].as_str().unwrap().parse().unwrap();
    ask(json!({"run": plan, "dataset": dataset, "budget_nano_usd": 1_000_000_000})).await;
    let [message] = world.queue("replay").drain().try_into().unwrap();
    written.insert("replay-run", message.into());
    written.insert("replay-plan", get(&keys::replay_plan(&dataset, &plan)).await);
    written.insert("replay-chunk", get(&keys::replay_chunk(&dataset, &plan, 0)).await);
    written.insert("replay-progress", get(&keys::replay_progress(&dataset, &plan)).await);
    let proposal = keys::proposal(&dataset, &first.raw_id, first.order);
    written.insert("proposal", get(&proposal).await);
    written.insert("decision", get(&keys::decision(&dataset, raw_id, order)).await);
    written.insert("contract-pointer", get(&keys::contract_pointer(&dataset)).await);
    written.insert("contract-version", get(&keys::contract(&dataset, "1.0.0")).await);
    let refusals = list_all(&world.lake, &keys::contract_refusals(&dataset)).await.unwrap();
    assert_eq!((refusals.len(), refusals[0].modified), (1, refused.modified));
    written.insert("contract-refusal", get(&refusals[0].key).await);
    let of_table = async |name: &str| get(&keys::metadata(&dataset, name)).await;
    let pointer = of_table("version-hint.text").await;
    let metadata = of_table(&format!("{}.metadata.json", text(&pointer))).await;
    let table = TableMetadata::from_json(&metadata).unwrap();
    let snapshot = table.current_snapshot().unwrap();
    let base = world.lake.uri(&keys::metadata(&dataset, ""));
    let manifests = of_table(snapshot.manifest_list.strip_prefix(&base).unwrap()).await;
    let described = list::read(&manifests).unwrap().remove(0);
    let root = of_table(&snapshot.summary["sluicegate.ledger"]).await;
    let pages: Root = serde_json::from_slice(&root).unwrap();
    written.insert("manifest", of_table(described.path.strip_prefix(&base).unwrap()).await);
    written.insert("ledger-page", of_table(&pages.pages[0].ledger).await);
    written.insert("change-list", of_table(&snapshot.summary["sluicegate.changes"]).await);
    written.insert("table-pointer", pointer);
    written.insert("table-metadata", metadata);
    written.insert("manifest-list", manifests);
    written.insert("ledger-root", root);
    written
}

#[tokio::test]
#[ignore = "it rewrites the golden files of the present versions"]
async fn rewrite_the_golden_files_of_today() {
    for (name, bytes) in written_today().await {
        let format = Format::of(name);
        let file = format.file(format.version_of(&bytes));
        let bytes = match format.extension {
            // One value a line, for whoever reads a difference.
            "json" => format!("{:#}\n", value(&bytes)).into_bytes(),
            _ => bytes,
        };
        std::fs::write(folder().join(file), bytes).unwrap();
    }
}
