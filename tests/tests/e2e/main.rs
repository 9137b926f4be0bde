//! End-to-end scenarios, one module for each: nodes as processes, a real etcd, real clients.
//! `make e2e NAME=spill` runs those whose module or test has that name.

mod bad_input;
mod bad_neighbours;
mod codecs;
mod demo_node;
mod evil_registry;
mod health;
mod idle_cloud;
mod load_program;
mod lossy_links;
mod media_over_tcp;
mod node_death;
mod operators;
mod other_clients;
mod protocol;
mod refusal;
mod registry_away;
mod secure_door;
mod silent_about_tokens;
mod spill;
mod thirty_people;
mod three_relays;
mod trace;
mod where_is;
