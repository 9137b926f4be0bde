//! The sections of the page.

use systir_documents::{Bundle, Document, rfc3339};
use systir_policy::{Action, Rule, RuleEffect};
use systir_policy_profile::Hours;
use systir_policy_proof::{GuaranteeProof, Language, PermittedNodes, PolicyDiff};

use super::html::{STYLE, escaped};
use super::words::{action, rooms, text};
use super::{Page, countries};
use crate::dates;

impl Page<'_> {
    /// The whole page.
    pub(super) fn to_html(&self) -> String {
        let Document::Bundle(bundle) = &self.file.document else { return String::new() };
        let title = format!(
            "{} {}",
            self.say("Where the meetings of", "Hvor møderne fra"),
            match self.language {
                Language::English => format!("{} may be carried", bundle.institution),
                Language::Danish => format!("{} må være", bundle.institution),
            }
        );
        let sections = [
            self.head(bundle),
            self.places(bundle),
            self.never(),
            self.participants(bundle),
            self.changes(),
            self.limits(),
        ];
        format!(
            "<!doctype html>\n<html lang=\"{}\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
             content=\"width=device-width\">\n{texts}<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
             <h1>{title}</h1>\n{}</body>\n</html>\n",
            self.say("en", "da"),
            sections.concat(),
            texts = self.texts(),
            title = escaped(&title),
        )
    }

    /// The hashes of the texts that the page is about. A gateway serves it only while these are in force.
    fn texts(&self) -> String {
        let floor = self.floor.map(|floor| ("systir-floor", floor.hash()));
        let texts = [("systir-bundle", self.file.hash())].into_iter().chain(floor);
        texts.map(|(name, hash)| format!("<meta name=\"{name}\" content=\"{hash}\">\n")).collect()
    }

    fn say(&self, english: &'static str, danish: &'static str) -> &'static str {
        text(self.language, english, danish)
    }

    fn heading(&self, english: &'static str, danish: &'static str) -> String {
        format!("<h2>{}</h2>\n", escaped(self.say(english, danish)))
    }

    fn head(&self, bundle: &Bundle) -> String {
        let lifetime = bundle.lifetime;
        let dates = if lifetime.issued == 0 {
            self.say("a draft without dates", "et udkast uden datoer").to_owned()
        } else {
            match self.language {
                Language::English => format!(
                    "issued {}, valid until {} ({})",
                    day(lifetime.issued),
                    day(lifetime.not_after),
                    lifetime.validity(dates::now())
                ),
                Language::Danish => {
                    format!("udstedt {}, gælder til {}", day(lifetime.issued), day(lifetime.not_after))
                }
            }
        };
        let mut out = format!(
            "<p>{} {}, {}.</p>\n<p class=\"small\">SHA-256: <code>{}</code></p>\n",
            self.say("Policy of", "Politik for"),
            escaped(&format!("{}, version {}", bundle.institution, bundle.version)),
            escaped(&dates),
            self.file.hash()
        );
        if let Some(floor) = self.floor {
            out.push_str(&format!(
                "<p class=\"small\">{} {}. SHA-256: <code>{}</code></p>\n",
                self.say(
                    "Together with the rules (floor) of the operator",
                    "Sammen med reglerne (floor) fra operatøren"
                ),
                escaped(&format!("{}, version {}", floor.document.owner(), floor.document.version())),
                floor.hash()
            ));
        }
        out.push_str(&self.heading("Who signed", "Hvem der har underskrevet"));
        if self.signers.is_empty() {
            out.push_str(&format!(
                "<p><b>{}</b></p>\n",
                self.say(
                    "Nobody. No node uses this text yet.",
                    "Ingen. Ingen node bruger denne tekst endnu."
                )
            ));
        } else {
            out.push_str("<ul>\n");
            for signature in &self.signers {
                let known = match &signature.verified {
                    Some(fingerprint) => {
                        format!(
                            "{}: <code>{}</code>",
                            self.say("verified", "kontrolleret"),
                            escaped(fingerprint)
                        )
                    }
                    None => self
                        .say(
                            "not verified on this page: the key was not given",
                            "ikke kontrolleret på denne side: nøglen var ikke givet",
                        )
                        .to_owned(),
                };
                out.push_str(&format!("<li>{} — {known}</li>\n", escaped(&signature.stated)));
            }
            out.push_str("</ul>\n");
        }
        out
    }

    fn places(&self, bundle: &Bundle) -> String {
        let mut out = self.heading(
            "Which countries and companies, in which order",
            "Hvilke lande og selskaber, i hvilken rækkefølge",
        );
        out.push_str(&format!(
            "<p>{}</p>\n",
            escaped(self.say(
                "What is not in this table is denied. When the home of a room is full, the machines of overflow step 1 are asked \
                 first; those of step 2 only when the ones before have no place.",
                "Hvad der ikke står i tabellen, er nægtet. Når et rums hjem er fuldt, spørges maskinerne i overløbstrin 1 først; \
                 dem i trin 2 kun, når de foregående ingen plads har."
            ))
        ));
        let titles = [
            self.say("Use", "Brug"),
            self.say("Machines", "Maskiner"),
            self.say("Where they stand", "Hvor de står"),
            self.say("Who controls them", "Hvem der kontrollerer dem"),
            self.say("Rooms", "Rum"),
            self.say("When", "Hvornår"),
        ];
        let mut rows = String::new();
        let always = self.permissions.nodes.iter().map(|(node, rooms)| (node, rooms, None));
        let timed = self.permissions.timed_nodes.iter();
        let timed = timed.map(|(node, timed)| (node, &timed.rooms, Some(timed.rules.as_slice())));
        let mut nodes: Vec<_> = always.chain(timed).collect();
        nodes.sort_by_key(|(node, ..)| (node.action, node.tier));
        for (node, kinds, rules) in &nodes {
            let step = match node.tier {
                Some(tier) => format!(" — {} {tier}", self.say("step", "trin")),
                None => String::new(),
            };
            rows.push_str(&row(&[
                format!("{}{step}", action(node.action, self.language)),
                self.machines(node),
                countries::words(&node.countries, bundle, self.language),
                self.control(node, bundle),
                rooms(kinds, self.language),
                self.when(*rules, bundle),
            ]));
        }
        out.push_str(&table(&titles, &rows));
        let unused: Vec<&str> = Action::ALL
            .into_iter()
            .filter(|one| one.is_on_node() && !nodes.iter().any(|(node, ..)| node.action == *one))
            .map(|one| action(one, self.language))
            .collect();
        if !unused.is_empty() {
            out.push_str(&format!(
                "<p>{}: {}.</p>\n",
                self.say("Permitted to no machine at all", "Slet ingen maskine har lov til"),
                escaped(&unused.join("; "))
            ));
        }
        if !bundle.classes.is_empty() {
            out.push_str(&format!(
                "<p>{}</p>\n<ul>\n",
                self.say("Room names decide what a room is:", "Rummets navn afgør, hvad det er:")
            ));
            for class in &bundle.classes {
                let what = match (class.class.as_str(), class.e2ee) {
                    ("confidential", true) => {
                        self.say("confidential, encrypted end to end", "fortroligt, end-to-end-krypteret")
                    }
                    ("confidential", false) => self.say("confidential", "fortroligt"),
                    (_, true) => self.say("encrypted end to end", "end-to-end-krypteret"),
                    (_, false) => self.say("standard", "almindeligt"),
                };
                out.push_str(&format!("<li><code>{}</code>: {what}</li>\n", escaped(&class.pattern)));
            }
            out.push_str("</ul>\n");
        }
        for (zone, members) in &bundle.zones {
            let names: Vec<String> =
                members.iter().map(|code| countries::name(code, self.language)).collect();
            out.push_str(&format!(
                "<p class=\"small\">{}: {}.</p>\n",
                escaped(zone),
                escaped(&names.join(", "))
            ));
        }
        out
    }

    /// When something is permitted about which these rules decide by the time; without rules, always.
    fn when(&self, rules: Option<&[String]>, bundle: &Bundle) -> String {
        let Some(rules) = rules else { return self.say("always", "altid").to_owned() };
        let words = rules.iter().filter_map(|id| self.model.rule(id)).map(|rule| {
            let id = &rule.id;
            match (rule.effect, hours(rule, bundle), self.language) {
                (RuleEffect::Permit, Some(hours), Language::English) => hours.in_english(),
                (RuleEffect::Permit, Some(hours), Language::Danish) => hours.in_danish(),
                (RuleEffect::Permit, None, Language::English) => format!("at the times of rule {id}"),
                (RuleEffect::Permit, None, Language::Danish) => {
                    format!("på de tidspunkter, som reglen {id} siger")
                }
                (RuleEffect::Forbid, _, Language::English) => format!("not at the times of rule {id}"),
                (RuleEffect::Forbid, _, Language::Danish) => {
                    format!("ikke på de tidspunkter, som reglen {id} siger")
                }
            }
        });
        words.collect::<Vec<_>>().join("; ")
    }

    fn machines(&self, node: &PermittedNodes) -> String {
        let PermittedNodes { operator, host, .. } = node;
        match (self.language, operator == host) {
            (Language::English, true) => format!("{operator}'s own machines"),
            (Language::English, false) => format!("machines of {host}, run by {operator}"),
            (Language::Danish, true) => format!("{operator}s egne maskiner"),
            (Language::Danish, false) => format!("maskiner hos {host}, drevet af {operator}"),
        }
    }

    fn control(&self, node: &PermittedNodes, bundle: &Bundle) -> String {
        let PermittedNodes { operator, host, operator_control, host_control, .. } = node;
        let from = |name: &str, places| {
            let places = countries::words(places, bundle, self.language);
            format!("{name}: {places}")
        };
        if operator == host {
            from(operator, operator_control)
        } else {
            format!("{}; {}", from(operator, operator_control), from(host, host_control))
        }
    }

    fn never(&self) -> String {
        let mut out = self.heading("What is never possible", "Hvad der aldrig er muligt");
        let (solver, hash) = (&self.proof.solver, self.file.hash().short());
        let made = day(self.made);
        out.push_str(&format!(
            "<p>{}</p>\n",
            escaped(&match self.language {
                Language::English => format!(
                    "“Proved” means: a program showed that the text of this policy permits no exception, for any machine that \
                     could ever exist. It is a statement about the text, not about where a machine really stands. \
                     Checked {made} with {solver}, text {hash}."
                ),
                Language::Danish => format!(
                    "»Bevist« betyder: et program har vist, at politikkens tekst ikke tillader nogen undtagelse, for nogen maskine, \
                     der kunne findes. Det siger noget om teksten, ikke om hvor en maskine faktisk står. \
                     Kontrolleret {made} med {solver}, tekst {hash}."
                ),
            })
        ));
        let mut rows = String::new();
        for one in &self.proof.guarantees {
            rows.push_str(&self.guarantee(one));
        }
        out.push_str(&format!("<table>\n{rows}</table>\n"));
        out
    }

    fn guarantee(&self, one: &GuaranteeProof) -> String {
        let says = match self.language {
            Language::Danish if !one.says_da.is_empty() => &one.says_da,
            _ => &one.says,
        };
        let (class, mark) = if one.is_proved() {
            ("proved", self.say("proved", "bevist"))
        } else {
            ("refuted", self.say("NOT TRUE", "IKKE SANDT"))
        };
        let examples: String = one
            .refuted
            .iter()
            .map(|example| {
                format!("<br><span class=\"refuted\">{}</span>", escaped(&example.sentence(self.language)))
            })
            .collect();
        format!(
            "<tr><td><span class=\"mark {class}\">{mark}</span></td><td>{}{examples}</td></tr>\n",
            escaped(&capitalised(says))
        )
    }

    fn participants(&self, bundle: &Bundle) -> String {
        let mut out = self.heading("Who may join", "Hvem der må deltage");
        let titles = [
            self.say("What", "Hvad"),
            self.say("With a token of", "Med adgangsnøgle fra"),
            self.say("Rooms", "Rum"),
            self.say("When", "Hvornår"),
        ];
        let mut rows = String::new();
        let always = self.permissions.participants.iter().map(|(permitted, rooms)| (permitted, rooms, None));
        let timed = self.permissions.timed_participants.iter();
        let timed = timed.map(|(permitted, timed)| (permitted, &timed.rooms, Some(timed.rules.as_slice())));
        let mut all: Vec<_> = always.chain(timed).collect();
        all.sort_by_key(|(permitted, ..)| *permitted);
        for (permitted, kinds, rules) in &all {
            rows.push_str(&row(&[
                action(permitted.action, self.language).to_owned(),
                permitted.institution.clone(),
                rooms(kinds, self.language),
                self.when(*rules, bundle),
            ]));
        }
        out.push_str(&table(&titles, &rows));
        let unused: Vec<&str> = Action::ALL
            .into_iter()
            .filter(|one| !one.is_on_node() && !all.iter().any(|(known, ..)| known.action == *one))
            .map(|one| action(one, self.language))
            .collect();
        if !unused.is_empty() {
            out.push_str(&format!(
                "<p>{} {}: {}.</p>\n",
                self.say("Permitted to nobody at", "Ingen har lov til hos"),
                escaped(&bundle.institution),
                escaped(&unused.join("; "))
            ));
        }
        out
    }

    fn changes(&self) -> String {
        let Some(diff) = &self.diff else { return String::new() };
        let mut out = self
            .heading("What changed since the version before", "Hvad der er ændret siden den forrige version");
        let (looser, stricter, other) = self.change_lines(diff);
        for (title, lines) in [
            (self.say("Now permitted, for example:", "Nu tilladt, for eksempel:"), looser),
            (self.say("No longer permitted, for example:", "Ikke længere tilladt, for eksempel:"), stricter),
            (self.say("Also changed:", "Desuden ændret:"), other),
        ] {
            if !lines.is_empty() {
                let items: String =
                    lines.iter().map(|line| format!("<li>{}</li>\n", escaped(line))).collect();
                out.push_str(&format!("<p>{title}</p>\n<ul>\n{items}</ul>\n"));
            }
        }
        out.push_str(&format!(
            "<p>{} {}.</p>\n",
            self.say("Compared with the", "Sammenlignet med"),
            escaped(&format!(
                "{}: {}",
                diff.old,
                if diff.is_looser() {
                    self.say("this version permits more", "denne version tillader mere")
                } else {
                    self.say("this version permits nothing more", "denne version tillader intet mere")
                }
            ))
        ));
        out
    }

    fn change_lines(&self, diff: &PolicyDiff) -> (Vec<String>, Vec<String>, Vec<String>) {
        let looser = diff.actions.iter().filter_map(|one| one.looser.as_ref());
        let stricter = diff.actions.iter().filter_map(|one| one.stricter.as_ref());
        let mut other = Vec::new();
        for (english, danish, lines) in [
            ("weaker room classes", "svagere rumklasser", &diff.weaker_classes),
            ("stronger room classes", "stærkere rumklasser", &diff.stronger_classes),
            ("guarantees gone", "garantier, der er bortfaldet", &diff.guarantees_gone),
            ("new guarantees", "nye garantier", &diff.guarantees_new),
            ("order", "rækkefølge", &diff.order),
        ] {
            other.extend(lines.iter().map(|line| format!("{}: {line}", self.say(english, danish))));
        }
        (
            looser.map(|example| example.sentence(self.language)).collect(),
            stricter.map(|example| example.sentence(self.language)).collect(),
            other,
        )
    }

    fn limits(&self) -> String {
        let mut out = self.heading("What this page does not say", "Hvad denne side ikke siger");
        let lines = match self.language {
            Language::English => [
                "Where a machine really stands and who owns it is declared by its operator and signed; nobody proves it.",
                "A machine that is permitted and whose operator breaks the rules can leak what it carries. Only end-to-end \
                 encryption protects against that.",
                "The participants' own programs, and the networks between them and the first machine, are outside this policy.",
                "The order of the overflow steps is kept by the nodes; the proofs are about what is permitted at all.",
            ],
            Language::Danish => [
                "Hvor en maskine faktisk står, og hvem der ejer den, oplyses og underskrives af dens operatør; det bevises ikke.",
                "En tilladt maskine, hvis operatør bryder reglerne, kan lække det, den bærer. Kun end-to-end-kryptering beskytter \
                 mod det.",
                "Deltagernes egne programmer og nettene mellem dem og den første maskine er ikke omfattet af politikken.",
                "Overløbstrinnenes rækkefølge holdes af noderne; beviserne handler om, hvad der overhovedet er tilladt.",
            ],
        };
        let items: String = lines.iter().map(|line| format!("<li>{}</li>\n", escaped(line))).collect();
        out.push_str(&format!("<ul>\n{items}</ul>\n"));
        out.push_str(&format!(
            "<p class=\"small\">{} {}. {}</p>\n",
            self.say("Made", "Lavet"),
            day(self.made),
            escaped(&match self.language {
                Language::English =>
                    format!("Check it yourself: systirctl policy prove, on the {}.", self.model.name()),
                Language::Danish =>
                    format!("Kontrollér selv: systirctl policy prove ({}).", self.model.name()),
            })
        ));
        out
    }
}

/// The hours that a rule states, if its condition says exactly that for the dates of the bundle.
fn hours(rule: &Rule, bundle: &Bundle) -> Option<Hours> {
    let hours = Hours::parse(rule.hours()?)?;
    rule.reads_time_only_as(&hours.condition(bundle.lifetime)).then_some(hours)
}

fn day(seconds: u64) -> String {
    rfc3339(seconds).chars().take(10).collect()
}

fn capitalised(sentence: &str) -> String {
    let mut chars = sentence.chars();
    let first: String = chars.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

fn row(cells: &[String]) -> String {
    let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escaped(cell))).collect();
    format!("<tr>{cells}</tr>\n")
}

fn table(titles: &[&str], rows: &str) -> String {
    let titles: String = titles.iter().map(|title| format!("<th>{}</th>", escaped(title))).collect();
    format!("<table>\n<thead><tr>{titles}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n")
}
