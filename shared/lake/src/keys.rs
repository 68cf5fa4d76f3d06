//! The layout of the lake bucket: every key there is, made here.
//!
//! ```text
//! raw/<dataset>/<source>/<raw id>                        land
//! raw/_contracts/<dataset>/<raw id>                      land
//! contracts/<dataset>/<version>.json  current.json       land
//! staging/<dataset>/<raw id>/<order>/proposal.json       stage
//! staging/<dataset>/<raw id>/<order>/report.html         stage
//! staging/<dataset>/<raw id>/<order>/table/metadata/…    stage
//! staging/<dataset>/<raw id>/<order>/decision.json       people
//! staging/<dataset>/<raw id>/<order>/closed.json         collection
//! quarantine/<dataset>/<raw id>/<order>-<n>.rows .jsonl  stage
//! replays/<dataset>/<plan id>/plan.json <n>.json         replay
//! replays/<dataset>/<plan id>/progress.json              replay, people
//! tables/<dataset>/data/<partition>/<raw id>-<attempt>-<n>.parquet   stage
//! tables/<dataset>/metadata/…  version-hint.text         promote
//! ```

use uuid::Uuid;

use crate::name::{Dataset, Order, PlanId, RawId, Source};

/// The prefix of contract uploads in the inbox.
pub const INBOX_CONTRACTS: &str = "_contracts/";

/// Attribute of a raw object: the upload's sequencer.
pub const SEQUENCER: &str = "sluicegate-sequencer";

/// Attribute of a raw object: the inbox key below its dataset in base64, where the source is only a hash of it.
pub const INBOX_KEY: &str = "sluicegate-inbox-key";

/// Where all raw objects lie, those of contracts too.
pub const RAW: &str = "raw/";

/// All versions of one source.
pub fn raw_of_source(dataset: &Dataset, source: &Source) -> String {
    format!("raw/{dataset}/{source}/")
}

/// All raw objects of a dataset.
pub fn raw_of_dataset(dataset: &Dataset) -> String {
    format!("raw/{dataset}/")
}

/// A raw object.
pub fn raw(dataset: &Dataset, source: &Source, id: &RawId) -> String {
    format!("raw/{dataset}/{source}/{id}")
}

/// What a key made by [`raw`] names, or `None` for any other key.
pub fn parse_raw(key: &str) -> Option<(Dataset, Source, RawId)> {
    let mut parts = key.strip_prefix("raw/")?.split('/');
    let found =
        (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(found)
}

/// One immutable version of a contract, by the name that the pointer has for it.
pub fn contract(dataset: &Dataset, name: &str) -> String {
    format!("contracts/{dataset}/{name}.json")
}

/// The pointer to a dataset's current contract.
pub fn contract_pointer(dataset: &Dataset) -> String {
    format!("contracts/{dataset}/current.json")
}

/// Where all contracts lie.
pub const CONTRACTS: &str = "contracts/";

/// The dataset of a key made by [`contract_pointer`], or `None` for any other key.
pub fn parse_contract_pointer(key: &str) -> Option<Dataset> {
    key.strip_prefix(CONTRACTS)?.strip_suffix("/current.json")?.parse().ok()
}

/// A contract as it was uploaded, kept whatever becomes of it.
pub fn contract_upload(dataset: &Dataset, upload: &RawId) -> String {
    format!("raw/_contracts/{dataset}/{upload}")
}

/// Why an uploaded contract was refused.
pub fn contract_refusal(dataset: &Dataset, upload: &RawId) -> String {
    format!("{}{upload}.json", contract_refusals(dataset))
}

/// Where the refusals of a dataset's contracts lie.
pub fn contract_refusals(dataset: &Dataset) -> String {
    format!("contracts/{dataset}/refused/")
}

/// Where a contract is uploaded, in the inbox.
pub fn contract_inbox(dataset: &Dataset) -> String {
    format!("{INBOX_CONTRACTS}{dataset}.json")
}

/// Where the proposals of a dataset lie.
pub fn staging(dataset: &Dataset) -> String {
    format!("staging/{dataset}/")
}

/// What staging a raw object at an order produced.
pub fn proposal(dataset: &Dataset, id: &RawId, order: Order) -> String {
    format!("staging/{dataset}/{id}/{order}/proposal.json")
}

/// Where the proposals of a raw object lie, one folder an order.
pub fn proposals(dataset: &Dataset, id: &RawId) -> String {
    format!("staging/{dataset}/{id}/")
}

/// The order of a key made by [`proposal`], or `None` for any other key.
pub fn parse_proposal(key: &str) -> Option<Order> {
    let (folder, name) = key.rsplit_once('/')?;
    (name == "proposal.json").then(|| folder.rsplit('/').next())??.parse().ok()
}

/// What a person reads first about a proposal that is not published.
pub fn report(dataset: &Dataset, id: &RawId, order: Order) -> String {
    format!("staging/{dataset}/{id}/{order}/report.html")
}

/// Where the table over a held proposal's files begins.
pub fn held_table(dataset: &Dataset, id: &RawId, order: Order) -> String {
    format!("staging/{dataset}/{id}/{order}/table")
}

/// What a person decided on a held proposal.
pub fn decision(dataset: &Dataset, id: &RawId, order: Order) -> String {
    format!("staging/{dataset}/{id}/{order}/decision.json")
}

/// Says that a proposal is done with: a grace later its data files may be deleted.
pub fn closing(dataset: &Dataset, id: &RawId, order: Order) -> String {
    format!("staging/{dataset}/{id}/{order}/closed.json")
}

/// The `n`th part of the quarantined rows: `extension` is `rows` (original bytes) or `jsonl` (reasons).
pub fn quarantine(
    dataset: &Dataset,
    id: &RawId,
    order: Order,
    n: usize,
    extension: &str,
) -> String {
    format!("quarantine/{dataset}/{id}/{order}-{n}.{extension}")
}

/// Where the plans of a dataset's replays lie.
pub fn replays(dataset: &Dataset) -> String {
    format!("replays/{dataset}/")
}

/// What a replay is to do, and what that is expected to cost.
pub fn replay_plan(dataset: &Dataset, plan: &PlanId) -> String {
    format!("replays/{dataset}/{plan}/plan.json")
}

/// The plan of a key made by [`replay_plan`], or `None` for any other key.
pub fn parse_replay_plan(key: &str) -> Option<PlanId> {
    key.strip_suffix("/plan.json")?.rsplit('/').next()?.parse().ok()
}

/// The `n`th part of a plan's objects.
pub fn replay_chunk(dataset: &Dataset, plan: &PlanId, n: u64) -> String {
    format!("replays/{dataset}/{plan}/{n}.json")
}

/// How far a replay has come: with the pointers, the only object that is ever replaced.
pub fn replay_progress(dataset: &Dataset, plan: &PlanId) -> String {
    format!("replays/{dataset}/{plan}/progress.json")
}

/// Where a dataset's table begins.
pub fn table(dataset: &Dataset) -> String {
    format!("tables/{dataset}")
}

/// The `n`th data file of an attempt at staging a raw object.
pub fn data_file(
    dataset: &Dataset,
    partition: &str,
    id: &RawId,
    attempt: Uuid,
    n: usize,
) -> String {
    format!("tables/{dataset}/data/{partition}/{id}-{attempt}-{n}.parquet")
}

/// Where a dataset's data files lie.
pub fn data_files(dataset: &Dataset) -> String {
    format!("tables/{dataset}/data/")
}

/// What a key (or a URI) made by [`data_file`] names: the raw object, the attempt, the file's number.
pub fn parse_data_file(key: &str) -> Option<(RawId, Uuid, usize)> {
    let name = key.rsplit('/').next()?.strip_suffix(".parquet")?;
    let (rest, n) = name.rsplit_once('-')?;
    // A raw id has 49 characters, and an attempt 36.
    let (id, attempt) = rest.split_at_checked(49)?;
    Some((id.parse().ok()?, attempt.strip_prefix('-')?.parse().ok()?, n.parse().ok()?))
}

/// An object of the table's metadata.
pub fn metadata(dataset: &Dataset, name: &str) -> String {
    format!("tables/{dataset}/metadata/{name}")
}

/// The table's pointer.
pub fn table_pointer(dataset: &Dataset) -> String {
    metadata(dataset, "version-hint.text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_keys_read_back_and_stay_below_the_limit() {
        let dataset: Dataset = "d".repeat(63).parse().unwrap();
        let source = Source::of_inbox_key(&"é".repeat(116)).unwrap();
        let id = RawId::new(jiff::Timestamp::UNIX_EPOCH, "b", "k", "v");
        let key = raw(&dataset, &source, &id);
        assert!(key.len() < 1024 && source.as_str().len() > 690);
        assert_eq!(parse_raw(&key), Some((dataset, source, id)));
        assert_eq!(parse_raw("raw/flights/x"), None);
        assert_eq!(parse_raw("tables/flights/x/y"), None);
    }

    #[test]
    fn datasets_are_known_by_their_pointers() {
        let dataset: Dataset = "flights".parse().unwrap();
        assert_eq!(parse_contract_pointer(&contract_pointer(&dataset)), Some(dataset.clone()));
        assert_eq!(parse_contract_pointer(&contract(&dataset, "1.0.0")), None);
        assert_eq!(parse_contract_pointer("contracts/x/refused/current.json"), None);
    }

    #[test]
    fn a_data_files_key_names_its_attempt() {
        let dataset: Dataset = "flights".parse().unwrap();
        let id = RawId::new(jiff::Timestamp::UNIX_EPOCH, "b", "k", "v");
        let attempt = Uuid::from_u128(7);
        let key = data_file(&dataset, "time_day=2013-01-01", &id, attempt, 12);
        assert!(key.starts_with(&data_files(&dataset)));
        assert_eq!(parse_data_file(&key), Some((id, attempt, 12)));
        assert_eq!(parse_data_file(&key.replace(".parquet", "")), None);
        assert_eq!(parse_data_file("tables/flights/data/x/y-1.parquet"), None);
    }

    #[test]
    fn only_a_plans_key_names_it() {
        let dataset: Dataset = "flights".parse().unwrap();
        let plan = PlanId::new(3, Uuid::from_u128(7));
        assert_eq!(parse_replay_plan(&replay_plan(&dataset, &plan)), Some(plan.clone()));
        assert_eq!(parse_replay_plan(&replay_progress(&dataset, &plan)), None);
        assert_eq!(parse_replay_plan(&replay_chunk(&dataset, &plan, 0)), None);
    }

    #[test]
    fn only_a_proposals_key_has_its_order() {
        let dataset: Dataset = "flights".parse().unwrap();
        let id = RawId::new(jiff::Timestamp::UNIX_EPOCH, "b", "k", "v");
        let order = Order { epoch: 3, contract: 2, engine: 1 };
        assert_eq!(parse_proposal(&proposal(&dataset, &id, order)), Some(order));
        assert_eq!(parse_proposal(&decision(&dataset, &id, order)), None);
        assert_eq!(parse_proposal("proposal.json"), None);
    }
}
