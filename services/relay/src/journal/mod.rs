//! The journal of this node: what its decisions let in and kept out, in files of its state folder. Decisions go into a
//! bounded queue and never wait; one task writes them. What the queue or the disk does not take is counted, logged once, and
//! written into the journal as a gap when it works again. `systir-journal` has the lines and the plan of the files.

mod files;
mod metrics;
mod queue;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use files::JournalFiles;
pub(crate) use metrics::JournalMetrics;
pub(crate) use queue::JournalQueue;
pub(crate) use write::{QUEUE, run};
