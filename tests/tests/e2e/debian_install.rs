//! The commands of `docs/install-debian.md`, run in order, each on its machine.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use systir_tests::debian_machines::DebianMachines;
use systir_tests::scenario::run_scenario;

/// The machines of the page.
const MACHINES: [(&str, &str); 4] = [
    ("operator", "203.0.113.8"),
    ("institution", "203.0.113.9"),
    ("cph-1", "192.0.2.10"),
    ("sto-1", "198.51.100.20"),
];

/// The blocks of commands, each with its machines: "```sh cph-1 sto-1".
fn blocks(page: &str) -> Vec<(Vec<String>, String)> {
    let parts = page.split("```sh ").skip(1).filter_map(|part| part.split_once("```"));
    let blocks = parts.filter_map(|(block, _)| block.split_once('\n'));
    blocks
        .map(|(machines, commands)| {
            (machines.split_whitespace().map(str::to_owned).collect(), commands.to_owned())
        })
        .collect()
}

/// Certificates for browsers, which the machines have from elsewhere.
fn web_certificates(machines: &DebianMachines) -> Result<()> {
    for (node, address) in MACHINES.iter().filter(|(name, _)| ["cph-1", "sto-1"].contains(name)) {
        let made = rcgen::generate_simple_self_signed([(*address).to_owned()])?;
        let folder = machines.setup(node).join("web").join(node);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("fullchain.pem"), made.cert.pem())?;
        std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem())?;
        let folder = machines.setup("institution").join("web");
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("ca.pem");
        let known = std::fs::read_to_string(&file).unwrap_or_default();
        std::fs::write(file, known + &made.cert.pem())?;
    }
    Ok(())
}

#[test]
fn the_commands_of_the_page_make_two_machines_that_meet() -> Result<()> {
    run_scenario(async {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/install-debian.md");
        let text = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
        let blocks = blocks(&text);
        ensure!(blocks.len() >= 18, "{} blocks", blocks.len());
        ensure!(!text.contains("```sh\n"), "a block names no machine");
        let machines = DebianMachines::start(&MACHINES)?;
        web_certificates(&machines)?;
        let mut joined = false;
        for (on, commands) in &blocks {
            for machine in on {
                let printed = machines.run(machine, commands).await?;
                if ["systirctl doctor\n", "systirctl doctor --quiet"].iter().any(|one| commands.contains(one))
                {
                    ensure!(printed.contains("0 wrong, "), "{machine}: {printed}");
                } else if commands.contains("systir-load --ca") {
                    ensure!(printed.lines().filter(|line| line.contains(" up")).count() == 2, "{printed}");
                    // It exits with 0 only if all have joined.
                    joined = true;
                }
            }
        }
        ensure!(joined, "nobody joined");
        // The other node answers the doctor over gRPC and QUIC through the firewalls; nobody else may ask it or etcd.
        for (node, other) in [("cph-1", "sto-1"), ("sto-1", "cph-1")] {
            let found = machines.run(node, "runuser -u systir -- systirctl doctor").await?;
            let line = found.lines().find(|line| line.contains(other) && line.contains("peers"));
            ensure!(line.is_some_and(|line| line.contains("gRPC and QUIC answer")), "{node}: {found}");
            ensure!(found.contains("the running node listens"), "{node}: {found}");
        }
        for port in [2379, 7871, 7872] {
            let dial = format!("! timeout 1 sh -c 'exec 3<>/dev/tcp/192.0.2.10/{port}'");
            machines.run("institution", &format!("bash -c \"{dial}\"")).await?;
        }
        Ok(())
    })
}
