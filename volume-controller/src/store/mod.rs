//! The store: every object, in memory for reading, in SQL for durability.
//!
//! A write is a key, a precondition and a new body; a transaction is a list of
//! writes, all or none. One writer drains the queue and commits everything that
//! waits in one SQL transaction, so latency is one fsync and throughput many.
//! The revision is taken inside that transaction, so commit order is revision
//! order, and every write of a transaction has a revision of its own.

mod types;

pub use types::{Change, ChangeKind, CommitError, Committed, Key, List, Object, Precondition, Write};
