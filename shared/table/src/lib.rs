//! The table: what is published, as an Iceberg v2 table that any engine reads, and how it changes.
//!
//! * [`iceberg`]: the format, pure.
//! * [`Proposal`]: what staging a raw object came to, and [`Decision`] what a person made of a held one.
//! * [`Ledger`]: one record for every raw object ever promoted; [`tree`]: its pages, and the manifests beside them.
//! * [`plan`]: what a group of proposals makes of a table, pure; [`invariants`]: what must hold of it; [`changes`]: what
//!   that means for those who read it.
//! * [`history`]: what was published before a raw object, for its audits.
//! * [`commit`]: reads, plans, checks, writes, and swaps the pointer; [`rollback`]: the same for an older snapshot's state.
//! * [`catalog`]: tells a catalog what the pointer holds.
//! * [`log`]: the snapshots there are, and what changed since one of them.
//! * [`retention`]: snapshots expire, and what nothing leads to any more is collected.
//! * [`held`]: what waits for a person, and a person's decision.
//! * [`budget`]: what a month's stagings cost, beside what the contract allows.
//! * [`replay`]: what is staged again, what that should cost, and how far it has come.
//! * [`report`]: a proposal as a person reads it, and [`preview`] as an engine does; pure.
//!
//! `DESIGN.md` beside this crate says why it is shaped so.

pub mod bill;
pub mod budget;
pub mod catalog;
pub mod changes;
pub mod commit;
mod contracts;
pub mod held;
pub mod history;
pub mod iceberg;
pub mod invariants;
mod lateness;
mod ledger;
pub mod log;
mod mapping;
pub mod plan;
pub mod preview;
mod proposal;
pub mod replay;
pub mod report;
pub mod retention;
pub mod rollback;
pub mod tree;
mod view;
mod write;

pub use contracts::{ContractError, current_contract};
pub use ledger::{Ledger, Record, State};
pub use mapping::{partition_by, table_schema};
pub use proposal::{Decision, PartitionBy, Proposal, Receipt, Ruling};
pub use view::{View, number_of};
