//! Instructions that the demo prints once all nodes run. The meeting page's address is the last line, so that
//! it stays visible.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;

use super::{DemoOptions, NODES, outside_address};

/// Prints which nodes run, what to try, and the addresses.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn print(options: &DemoOptions) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match &options.only {
        None => write!(out, "{}", three_nodes(options))?,
        Some(node) => write!(out, "{}", one_node(options, node))?,
    }
    out.flush()?;
    Ok(())
}

fn url(ip: IpAddr, options: &DemoOptions, index: u16) -> String {
    format!("http://{}", SocketAddr::new(ip, options.base(index) + 10))
}

/// The path of a program in this program's folder, relative to the working directory if possible.
pub(super) fn sibling_program(name: &str) -> String {
    let path = std::env::current_exe().map(|path| path.with_file_name(name)).unwrap_or_else(|_| name.into());
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(&path).display().to_string()
}

fn three_nodes(options: &DemoOptions) -> String {
    let seats = |wanted: &str| {
        options.nodes().find(|(_, name, _)| *name == wanted).map_or(0, |(_, _, capacity)| capacity)
    };
    let (home, spill) = (seats("cph-1"), seats("sto-1"));
    let (load, ctl) = (sibling_program("systir-load"), sibling_program("systirctl"));
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (node, cloud) = (url(loopback, options, 0), url(loopback, options, 2));
    format!(
        "
  Systir: three nodes of nordunet on this machine

    cph-1      Copenhagen, own machine        home node, {home} seats
    sto-1      Stockholm, own machine         approved spill node, {spill} seats
    aws-sto-1  Stockholm, leased machine      controlled from US, not approved by ku.dk

  1. Open the meeting page (last line), join, and press (i): one node carries your media, in Denmark.
  2. In a second terminal, fill the home node. These participants stay until Ctrl-C.
       {load} --url {node} --room demo --participants {home} --video --audio --stay
     The home node has {home} seats: the last participant joins on the spill node, and your (i) shows
     it at once. Open the page in another window too, and see all participants.
  3. In a third terminal, fill the spill node as well.
       {load} --url {node} --room demo --participants {spill} --identity-prefix more --video --audio --stay
     The next window is refused, and the page shows the reason; aws-sto-1 stays idle.
     aws-sto-1 serves no meeting page; it shows why:
       {cloud}/?room=demo
  4. Which node would carry the next participant, and why?
       {ctl} --url {node} nodes
       {ctl} --url {node} explain demo
{}",
        last_lines(options, 0)
    )
}

fn one_node(options: &DemoOptions, node: &str) -> String {
    let index = (0..).zip(NODES).find(|(_, (name, _))| *name == node).map_or(0, |(index, _)| index);
    let url = url(IpAddr::V4(Ipv4Addr::LOCALHOST), options, index);
    let ctl = sibling_program("systirctl");
    format!(
        "
  Systir: node {node} of the demo alone; it knows no other node.

       {ctl} --url {url} nodes
{}",
        last_lines(options, index)
    )
}

/// The last lines: which addresses are used, the log file, and the meeting page.
fn last_lines(options: &DemoOptions, index: u16) -> String {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let reach = match (options.address, outside_address()) {
        (Some(second), _) => format!(
            "Links are on {loopback} alone; pages, signalling and media also on {second}:\n       {}/?room=demo",
            url(second.into(), options, index)
        ),
        (None, Some(outside)) => format!(
            "Pages, signalling and links are on {loopback} alone; media also on {outside}, because some\n  \
             browsers have no loopback candidate."
        ),
        (None, None) => format!("Everything is on {loopback} alone."),
    };
    format!(
        "
  {reach}
  The API key `devkey` and its secret are public: do not use the demo for private meetings.
  Log: {} (warnings are shown here too). Ctrl-C stops all nodes.

  Meeting page: {}/?room=demo
",
        options.log_file().display(),
        url(loopback, options, index)
    )
}
