//! Tests of the documents' texts.

use proptest::prelude::*;

use crate::samples::{ISSUED, bundle, directory, floor, key};
use crate::{Bundle, Document, DocumentId, Guarantee, Lifetime, RoomClassRule};

fn refused(text: &str) -> String {
    Document::parse(text).unwrap_err().to_string()
}

/// What `Document::parse` says of the document's text with one change.
fn changed(document: &Document, from: &str, to: &str) -> String {
    let text = document.to_text();
    assert!(text.contains(from), "{from} is not in\n{text}");
    refused(&text.replacen(from, to, 1))
}

#[test]
fn a_document_is_read_as_it_was_written() {
    for document in [bundle("ku.dk", 1), floor("nordunet", 2), directory("nordunet", 3)] {
        let text = document.to_text();
        assert_eq!(Document::parse(&text).as_ref(), Ok(&document), "{text}");
        assert_eq!(document.lifetime().issued, ISSUED);
    }
    assert_eq!(bundle("ku.dk", 1).id(), DocumentId::bundle("ku.dk"));
    assert_eq!(floor("nordunet", 2).id().to_string(), "floor of nordunet");
    assert_eq!(directory("nordunet", 3).id().to_string(), "directory of nordunet");
}

#[test]
fn a_document_may_have_comments_and_any_order() {
    let text = bundle("ku.dk", 1).to_text().replace("version = 1\n", "version = 1 # the first one\n\n");
    assert_eq!(Document::parse(&text), Ok(bundle("ku.dk", 1)));
}

#[test]
fn a_text_that_is_too_long_is_refused_before_anything_else() {
    let text = format!("{}{}", bundle("ku.dk", 1).to_text(), "\0".repeat(crate::MAX_NOTE_BYTES));
    assert!(refused(&text).contains("at most 524288 are allowed"));
}

#[test]
fn errors_name_the_line_of_the_text() {
    let bundle = bundle("ku.dk", 1);
    assert_eq!(changed(&bundle, "version = 1", "version = 0"), "line 3: the first version is 1");
    assert!(changed(&bundle, "version = 1", "version = -1").starts_with("line 3: "));
    assert!(
        changed(&bundle, "version = 1", "version = 1\nedition = 2")
            .starts_with("line 4: unknown field `edition`")
    );
    assert!(changed(&bundle, "version = 1", "version = 1\nversion = 2").starts_with("line 4: "));
    assert!(changed(&bundle, "version = 1", "version =").starts_with("line 3: "));
    assert_eq!(changed(&bundle, "version = 1\n", ""), "missing field `version`");
    assert_eq!(
        changed(&floor("nordunet", 1), "cedar =", "cedra ="),
        "line 19: unknown field `cedra`, expected `cedar`"
    );
    assert_eq!(
        changed(&bundle, "// Rules.", "\t// Rules."),
        "line 30: the character \\u{9} is not allowed in a signed text; replace tabs by spaces, and remove control \
         characters and invisible ones"
    );
    assert_eq!(refused(bundle.to_text().trim_end()), "the text must end with a newline");
}

#[test]
fn the_lines_of_a_policy_are_lines_of_the_document() {
    for document in [bundle("ku.dk", 1), floor("nordunet", 1)] {
        let text = document.to_text();
        let (Document::Bundle(Bundle { policy, .. }) | Document::Floor(crate::Floor { policy, .. })) =
            document
        else {
            unreachable!()
        };
        let begin = crate::policy_line(&text).unwrap();
        assert_eq!(text.lines().nth(begin - 1), policy.lines().next());
        let on_one_line = text.replacen("cedar = '''\n", "cedar = '''", 1);
        assert_eq!(crate::policy_line(&on_one_line), Some(begin - 1));
    }
    assert_eq!(crate::policy_line(&directory("nordunet", 1).to_text()), None);
    assert_eq!(crate::policy_line("x"), None);
}

#[test]
fn the_first_line_says_which_document_it_is() {
    let known =
        "the first line must be one of systir.org/bundle/v1, systir.org/floor/v1, systir.org/directory/v1";
    for (first, shown) in [
        ("", ""),
        ("systir.org/bundle/v1.1", "systir.org/bundle/v1.1"),
        ("systir.org/bundle/v1 ", "systir.org/bundle/v1 "),
    ] {
        let error = changed(&bundle("ku.dk", 1), "systir.org/bundle/v1", first);
        assert_eq!(error, format!("line 1: \"{shown}\" is not the type of a document; {known}"));
    }
    assert!(refused("").contains("must end with a newline"));
    assert!(refused("\n").contains(known));
}

#[test]
fn a_text_of_one_type_is_never_read_as_another() {
    let documents = [bundle("nordunet", 1), floor("nordunet", 1), directory("nordunet", 1)];
    for document in &documents {
        for other in documents.iter().filter(|other| other.kind() != document.kind()) {
            let error = changed(document, document.kind().first_line(), other.kind().first_line());
            assert!(error.contains("unknown field") || error.contains("missing field"), "{error}");
        }
    }
}

#[test]
fn dates_that_are_no_lifetime_are_refused() {
    let floor = floor("nordunet", 1);
    assert_eq!(
        changed(&floor, "renew_by = 2027-01-28", "renew_by = 2026-01-28"),
        "line 5: renew_by is before issued"
    );
    assert_eq!(
        changed(&floor, "not_after = 2027-02-27", "not_after = 2027-01-27"),
        "line 6: not_after is before renew_by"
    );
    assert!(
        changed(&floor, "08:00:00Z", "08:00:00+01:00")
            .starts_with("line 4: 2026-11-29T08:00:00+01:00 is not a time in UTC")
    );
    assert!(
        changed(&floor, "2026-11-29T08:00:00Z", "2026-11-29").contains("write it like 2026-11-29T08:00:00Z")
    );
    assert!(changed(&floor, "2026-11-29T08:00:00Z", "\"2026-11-29T08:00:00Z\"").starts_with("line 4: "));
}

#[test]
fn malformed_names_zones_and_classes_are_refused() {
    let bundle = bundle("ku.dk", 1);
    assert!(
        changed(&bundle, "institution = \"ku.dk\"", "institution = \"KU\"")
            .starts_with("line 2: \"KU\" is not a name")
    );
    assert!(changed(&bundle, "\"sunet\"]", "\"\"]").starts_with("line 9: \"\" is not a name"));
    assert!(
        changed(&bundle, "\"Amazon Web Services\"", "\" x\"").contains("line 10: \" x\" cannot be shown")
    );
    assert!(changed(&bundle, "[vocabulary]", "[names]").contains("unknown field `names`"));
    assert!(changed(&bundle, "hosts =", "hots =").contains("unknown field `hots`"));
    assert!(
        changed(&bundle, "\"DK\"", "\"Denmark\"")
            .starts_with("line 15: \"Denmark\" is not an ISO 3166-1 alpha-2 country")
    );
    assert!(changed(&bundle, "[\"NO\"]", "[]").starts_with("line 16: the zone North Sea has no countries"));
    assert!(changed(&bundle, "\"North Sea\"", "\"North/Sea\"").contains("may only have letters"));
    assert_eq!(
        changed(&bundle, "\"confidential\"", "\"secret\""),
        "line 20: a class is \"standard\" or \"confidential\""
    );
    assert!(changed(&bundle, "e2ee = true", "e2ee = 1").starts_with("line 21: "));
    assert!(changed(&bundle, "pattern = \"*\"", "pattern = \"\"").contains("cannot be shown"));
    let many = format!("version = 1\nclass = [{}]", "{pattern=\"a\",class=\"standard\"},".repeat(257));
    let without = bundle.to_text().replace("[[class]]", "[[old]]");
    assert!(refused(&without.replacen("version = 1", &many, 1)).contains("unknown field `old`"));
    let Document::Bundle(mut bundle) = bundle else { unreachable!() };
    bundle.classes.clear();
    let text = Document::Bundle(bundle).to_text().replacen("version = 1", &many, 1);
    assert_eq!(refused(&text), "line 4: there are more than 256 [[class]]");
}

#[test]
fn a_directory_lists_its_own_nodes_only_and_each_once() {
    let directory = directory("nordunet", 1);
    let id = "spiffe://nordu.net/relay/sto-1";
    assert!(
        changed(&directory, id, "spiffe://sunet.se/relay/sto-1")
            .contains("is not in the trust domain nordu.net")
    );
    assert!(
        changed(&directory, id, "spiffe://nordu.net/relay/cph-1")
            .contains("another node of this directory has the same spiffe_id")
    );
    assert!(
        changed(&directory, "id = \"sto-1\"", "id = \"cph-1\"")
            .contains("another node of this directory has the same id")
    );
    assert!(
        changed(&directory, "trust_domain = \"nordu.net\"", "trust_domain = \"nordu/net\"")
            .contains("line 3: \"nordu/net\" is not a trust domain")
    );
    let (cph, sto) = (key("cph-1/a").public(), key("sto-1/a").public());
    let cph_renamed = key("cph-1/a").public().as_bytes().to_owned();
    let cph_renamed = crate::PublicKey::new("sto-1/x", cph_renamed).unwrap();
    for same in [cph.to_string(), cph_renamed.to_string(), key("sto-1/b").public().to_string()] {
        assert!(changed(&directory, &sto.to_string(), &same).contains("this key comes twice"));
    }
    let one = format!("[\"{cph}\"]");
    assert!(changed(&directory, &one, "[]").contains("a node has one key, or two"));
    assert!(
        changed(
            &directory,
            &one,
            &format!("[\"{cph}\", \"{}\", \"{}\"]", key("b").public(), key("c").public())
        )
        .contains("a node has one key, or two")
    );
    assert!(changed(&directory, &one, "[\"cph-1\"]").contains("it is not a public key"));
}

#[test]
fn a_node_lies_in_prefixes_and_countries() {
    let directory = directory("nordunet", 1);
    let prefixes = "prefixes = [\"192.0.2.0/24\", \"2001:db8::/32\"]";
    assert!(changed(&directory, prefixes, "prefixes = []").contains("a node has 1 to 16 prefixes"));
    assert!(changed(&directory, prefixes, "prefixes = [\"192.0.2.1/24\"]").contains("write 192.0.2.0/24"));
    assert!(changed(&directory, &format!("{prefixes}\n"), "").contains("missing field `prefixes`"));
    assert!(changed(&directory, "country = \"DK\"", "country = \"dk\"").contains("write \"DK\""));
    assert!(changed(&directory, "-----BEGIN CERTIFICATE", "-----BEGIN X").contains("roots"));
    let Document::Directory(directory) = directory else { unreachable!() };
    let node = directory.node_of("spiffe://nordu.net/relay/sto-1").unwrap();
    assert!(node.may_be_dialled_at("192.0.2.7".parse().unwrap()));
    assert!(!node.may_be_dialled_at("198.51.100.7".parse().unwrap()));
    assert!(directory.node_of("spiffe://nordu.net/relay/x").is_none());
}

fn any_bundle() -> impl Strategy<Value = Document> {
    let names = || proptest::collection::btree_set("[a-z0-9][a-z0-9._-]{0,12}", 0..5);
    let labels = proptest::collection::btree_set("[a-zA-Zæøå\"'\\\\]{1,12}", 0..5);
    let zones = proptest::collection::btree_map(
        "[a-zA-Z0-9 _-]{1,8}",
        proptest::collection::vec("[A-Z]{2}", 1..40),
        0..4,
    );
    let class = ("[a-z*\"\\\\]{1,12}", prop_oneof!["standard", "confidential"], any::<bool>())
        .prop_map(|(pattern, class, e2ee)| RoomClassRule { pattern, class, e2ee });
    let classes = proptest::collection::vec(class, 0..4);
    let dates = (0_u64..100_000_000_000, 0_u64..1_000_000, 0_u64..1_000_000);
    let policy = prop_oneof!["(\\PC|\n){0,80}", "(?s).{0,40}", "['\"\\\\\n\t]{0,20}"];
    let guarantee = ("[a-z]{3}[0-9]{3,9}", "[a-z\"\\\\]{1,12}", "[a-z]{0,8}", names(), "['\"a \n=]{0,20}")
        .prop_map(|(id, says, says_da, actions, holds)| Guarantee {
            id,
            says,
            says_da,
            actions: actions.into_iter().collect(),
            holds,
        });
    let guarantees = proptest::collection::btree_map("[a-z]{1,8}", guarantee, 0..3)
        .prop_map(|named| named.into_iter().map(|(id, guarantee)| Guarantee { id, ..guarantee }).collect());
    (
        (names(), labels, names(), names()),
        zones,
        (classes, guarantees),
        dates,
        policy,
        1..u64::try_from(i64::MAX).unwrap(),
    )
        .prop_map(
            |(
                (operators, hosts, nodes, institutions),
                zones,
                (classes, guarantees),
                (issued, renew, end),
                policy,
                version,
            )| {
                Document::Bundle(Bundle {
                    institution: "ku.dk".to_owned(),
                    version,
                    lifetime: Lifetime { issued, renew_by: issued + renew, not_after: issued + renew + end },
                    vocabulary: crate::Vocabulary { operators, hosts, nodes, institutions },
                    zones,
                    classes,
                    guarantees,
                    policy,
                })
            },
        )
}

proptest! {
    #[test]
    fn any_bundle_is_read_as_it_was_written(bundle in any_bundle()) {
        let text = bundle.to_text();
        prop_assert_eq!(Document::parse(&text), Ok(bundle), "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused_with_a_reason(text in "(?s).{0,120}", kind in 0_usize..3) {
        let first_line = crate::DocumentKind::ALL[kind].first_line();
        for text in [text.clone(), format!("{first_line}\n{text}\n")] {
            if let Err(error) = Document::parse(&text) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }

    #[test]
    fn a_document_with_a_changed_byte_is_read_or_refused_with_a_reason(at: prop::sample::Index, with in "[ -~\n]", kind in 0_usize..3) {
        let document = [bundle("ku.dk", 1), floor("nordunet", 1), directory("nordunet", 1)][kind].clone();
        let mut text: Vec<char> = document.to_text().chars().collect();
        let at = at.index(text.len());
        text.splice(at..=at, with.chars());
        if let Err(error) = Document::parse(&text.into_iter().collect::<String>()) {
            prop_assert!(!error.problem.is_empty());
        }
    }
}
