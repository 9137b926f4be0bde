//! The signed documents of this node: bundles, floors and directories. They come from a folder, from other
//! nodes and over HTTP; none of these is trusted, because each document carries its owner's signatures.
//!
//! - [`start`]: the documents and the policy that a node starts with
//! - [`store`]: the newest documents, and the policy engine made of them
//! - [`files`]: the folder of documents, and the folder that keeps the newest ones
//! - [`follow`]: takes changed files, and ends documents whose time has come
//! - [`follow_pins`]: takes changed pins from the configuration file
//! - [`exchange`]: fetches newer documents from other nodes
//! - [`trust`]: the CA roots that the directories state
//! - [`apply`]: trust and links after a change
//! - [`metrics`]: versions, dates and refusals

pub(crate) mod apply;
pub(crate) mod exchange;
mod files;
pub(crate) mod follow;
pub(crate) mod follow_pins;
pub(crate) mod metrics;
pub(crate) mod start;
pub(crate) mod store;
mod trust;
