//! Asks for an institution's usual policy and writes its profile.

use std::io::{BufRead as _, Write as _};
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use systir_policy_profile::Profile;

use crate::files;

/// One question, and what an empty answer means.
struct Question {
    text: &'static str,
    default: &'static str,
}

const QUESTIONS: [Question; 8] = [
    Question { text: "Institution, by its domain", default: "" },
    Question { text: "Operators that may run nodes for it, separated by commas", default: "" },
    Question {
        text: "Other owners of machines that the operators may lease, separated by commas; - for none",
        default: "-",
    },
    Question { text: "Countries in which a room's home may stand (DK, SE, ...)", default: "" },
    Question { text: "Countries or zones (EEA, EU, Nordic) for spill and gateways", default: "Nordic" },
    Question { text: "Zone from which operators and owners must be controlled", default: "EEA" },
    Question { text: "Names of confidential rooms, * for any characters; - for none", default: "exam-*" },
    Question { text: "May guests join rooms that are not confidential? yes or no", default: "no" },
];

/// Asks on the terminal, or reads the answers line by line.
pub(crate) fn run(out: &Path) -> Result<()> {
    if out.exists() {
        bail!("{} exists: it is not overwritten; give another file with --out", out.display());
    }
    let mut lines = std::io::stdin().lock().lines();
    let mut terminal = std::io::stderr();
    let mut answers = Vec::new();
    for Question { text, default } in QUESTIONS {
        let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        write!(terminal, "{text}{shown}: ")?;
        terminal.flush()?;
        let line = lines.next().ok_or_else(|| anyhow!("the answers ended at: {text}"))??;
        let answer = if line.trim().is_empty() { default } else { line.trim() };
        if answer.is_empty() {
            bail!("{text}: an answer is needed");
        }
        answers.push(answer.to_owned());
    }
    let text = profile(&answers);
    Profile::parse(&text).map_err(|error| anyhow!("with these answers it is no profile: {error}"))?;
    files::create(out, &text, false)?;
    let path = out.display();
    writeln!(
        std::io::stdout(),
        "{path}\nnext: systirctl policy prove {path}\n      systirctl policy build --profile {path} --version 1 --renew-by DATE \
         --not-after DATE --out FILE"
    )?;
    Ok(())
}

fn profile(answers: &[String]) -> String {
    let answer = |at: usize| answers.get(at).map_or("", String::as_str);
    let (institution, home, places, control) = (answer(0), words(answer(3)), words(answer(4)), answer(5));
    let operators = words(answer(1));
    let mut hosts = operators.clone();
    hosts.extend(words(answer(2)));
    let (countries, zones): (Vec<String>, Vec<String>) =
        places.into_iter().partition(|place| systir_policy::is_country(place));
    let place = format!("countries = {}\nzones = {}", list(&countries), list(&zones));
    let mut out = format!(
        "#:schema ./profile.schema.json
# The policy of {institution}. What is not named here is denied. `systirctl policy build` compiles it to Cedar, which is what is
# signed; `systirctl policy prove` proves the guarantees.
institution = {}
operators = {}
hosts = {}
guarantees = [
  {},
  \"confidential rooms on own machines\",
  \"only own participants\",
  \"no guests in confidential rooms\",
  \"nothing but relaying\",
]

# The operators' own machines, unless `hosts` names others.
[home]
countries = {}

# When the home is full. Add [[spill]] with tier = 2 and hosts = [...] for leased machines; hours = \"08-14\" and days =
# \"mon-fri\" limit it to these, with time_zone = \"Europe/Copenhagen\" at the top.
[[spill]]
tier = 1
{place}

# Where the clients' signalling ends.
[gateway]
{place}

# Who runs or owns a machine can be compelled to give access to it, wherever it stands.
[control]
zones = {}
",
        quoted(institution),
        list(&operators),
        list(&hosts),
        quoted(&format!("controlled only from {control}")),
        list(&home),
        list(&[control.to_owned()]),
    );
    for names in words(answer(6)) {
        out.push_str(&format!("\n[[rooms]]\nnames = {}\nclass = \"confidential\"\n", quoted(&names)));
    }
    let guests = if answer(7).starts_with('y') { "[\"standard\"]" } else { "[]" };
    out.push_str(&format!(
        "\n# Room classes in which each is permitted.\n[join]\nguests = {guests}\nhidden = []\nrecorders = []\nadminister = \
         [\"standard\", \"confidential\"]\n"
    ));
    out
}

fn words(answer: &str) -> Vec<String> {
    let words = answer.split(',').map(str::trim).filter(|word| !word.is_empty() && *word != "-");
    words.map(str::to_owned).collect()
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", words.join(", "))
}
