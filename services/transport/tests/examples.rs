//! Runs the examples: their assertions hold.

#[path = "../examples/two_peers.rs"]
mod two_peers;

#[test]
fn two_peers_exchange_media_and_data() -> Result<(), Box<dyn std::error::Error>> {
    two_peers::main()
}
