//! What the demonstration prints once everything listens. The address of the meeting page comes last,
//! so that it stays in sight.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;

use super::{NODES, Options, outside_address};

/// Prints what runs, what to try, and where.
///
/// # Errors
/// When nothing can be printed.
pub(super) fn print(options: &Options) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match &options.only {
        None => write!(out, "{}", three(options))?,
        Some(node) => write!(out, "{}", one(options, node))?,
    }
    out.flush()?;
    Ok(())
}

fn url(ip: IpAddr, options: &Options, index: u16) -> String {
    format!("http://{}", SocketAddr::new(ip, options.base(index) + 10))
}

/// Programs lie beside this one; shown as a person in this folder would type them.
fn beside(name: &str) -> String {
    let path = std::env::current_exe().map(|path| path.with_file_name(name)).unwrap_or_else(|_| name.into());
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(&path).display().to_string()
}

fn three(options: &Options) -> String {
    let seats = |wanted: &str| {
        options.nodes().find(|(_, name, _)| *name == wanted).map_or(0, |(_, _, capacity)| capacity)
    };
    let (home, spill) = (seats("cph-1"), seats("sto-1"));
    let (load, ctl) = (beside("systir-load"), beside("systirctl"));
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (node, cloud) = (url(loopback, options, 0), url(loopback, options, 2));
    format!(
        "
  Systir: three nodes of nordunet on this machine

    cph-1      Copenhagen, own machine        home node, room for {home}
    sto-1      Stockholm, own machine         approved spill node, room for {spill}
    aws-sto-1  Stockholm, leased machine      controlled from US, not approved by ku.dk

  1. Open the meeting page (last line), join, and press (i): one node carries you, in Denmark.
  2. In a second terminal, fill the home node. These participants stay until Ctrl-C.
       {load} --url {node} --room demo --participants {home} --video --audio --stay
     The home node has room for {home}: the last one to join is the first on the spill node, and
     your (i) shows it at once. Open the page in another window too, and see all of them.
  3. In a third terminal, fill the spill node as well.
       {load} --url {node} --room demo --participants {spill} --identity-prefix more --stay
     The next window is refused, and the page says why; aws-sto-1 stays idle.
     It admits no participant by itself either:
       {cloud}/?room=demo
  4. Which node would carry the next participant, and why?
       {ctl} --url {node} nodes
       {ctl} --url {node} explain demo
{}",
        end(options, 0)
    )
}

fn one(options: &Options, node: &str) -> String {
    let index = (0..).zip(NODES).find(|(_, (name, _))| *name == node).map_or(0, |(index, _)| index);
    let url = url(IpAddr::V4(Ipv4Addr::LOCALHOST), options, index);
    let ctl = beside("systirctl");
    format!(
        "
  Systir: node {node} of the demonstration alone; it knows no other node.

       {ctl} --url {url} nodes
{}",
        end(options, index)
    )
}

/// Where all of it can be reached, where the log is, and the page.
fn end(options: &Options, index: u16) -> String {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let reach = match (options.address, outside_address()) {
        (Some(also), _) => format!(
            "Links are on {loopback} alone; pages, signalling and media also on {also}:\n       {}/?room=demo",
            url(also.into(), options, index)
        ),
        (None, Some(outside)) => format!(
            "Pages, signalling and links are on {loopback} alone; media also on {outside}, since browsers\n  \
             may have no way to loopback."
        ),
        (None, None) => format!("All of it is on {loopback} alone."),
    };
    format!(
        "
  {reach}
  The key `devkey` and its secret are public: say nothing here that is private.
  Log: {} (warnings are shown here too). Ctrl-C ends all.

  Meeting page: {}/?room=demo
",
        options.log_file().display(),
        url(loopback, options, index)
    )
}
