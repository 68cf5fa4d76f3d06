#![no_main]
//! Any bytes as a contract.

use libfuzzer_sys::fuzz_target;
use sluicegate_contract::diff::diff;
use sluicegate_contract::{Contract, Version, VersionError, export, lock, sample};

fuzz_target!(|bytes: &[u8]| {
    let contract = match Contract::parse(bytes) {
        Ok(contract) => contract,
        Err(findings) => {
            assert!(!findings.to_string().is_empty(), "what is refused has a reason");
            let next = Version::next(bytes, None, "u");
            assert!(matches!(next, Err(VersionError::Lint(_))), "{next:?}");
            return;
        }
    };
    let version = Version::next(bytes, None, "u").expect("a contract is a first version");
    let version = version.expect("a first version is a new one");
    let kept: Version = sluicegate_fuzz::reread(&version);
    assert_eq!(kept, version, "a version is read as it was written");
    let again = kept.contract().expect("what is kept is a contract");
    assert_eq!(format!("{again:?}"), format!("{contract:?}"), "it is the same contract");
    let same = Version::next(bytes, Some(&version), "u").expect("the same document may come again");
    assert_eq!(same, None, "the same document is no new version");
    assert!(diff(&contract, &again).is_empty(), "a contract does not differ from itself");
    export::iceberg(&version).expect("a version is a contract");
    for export in [
        export::dbt(&contract, "d"),
        export::odcs(&contract, "d"),
        export::markdown(&contract, "d"),
    ] {
        assert!(!export.text.is_empty());
    }
    let locked = lock::lock(bytes).expect("a contract can be locked");
    lock::verify(bytes, &locked.to_text()).expect("a contract is as it was locked");
    for row in sample::valid(&contract, 1, 2) {
        assert!(contract.explain(&row).is_empty(), "a good row breaks nothing: {row}");
    }
});
