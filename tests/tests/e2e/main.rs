//! End-to-end scenarios, one module for each: nodes as processes, a real etcd, real clients.
//! `make e2e NAME=spill` runs those whose module or test has that name.

mod api_keys;
mod bad_input;
mod certificates;
mod codecs;
mod demo_node;
mod etcd_roles;
mod flapping_link;
mod grants;
mod health;
mod hostile_etcd;
mod hostile_registry;
mod https_gateway;
mod load_generator;
mod logs_hold_no_secrets;
mod lossy_links;
mod media_over_tcp;
mod misconfigured_nodes;
mod mixed_clients;
mod node_failure;
mod node_keys;
mod node_restarts;
mod other_clients;
mod policy_changes;
mod protocol;
mod refusal;
mod registry_offline;
mod residency;
mod revoked_home;
mod room_names;
mod spill;
mod systirctl;
mod thirty_participants;
mod trace;
mod two_machines;
mod unapproved_node;
