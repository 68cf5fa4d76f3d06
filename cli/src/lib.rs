//! What of the command line others call too: tests, in one process with a lake.

pub mod verify;
