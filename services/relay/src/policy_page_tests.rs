//! The page about the policy in force.

use systir_documents::DocumentId;

use super::api::request;
use super::*;

/// A page about these texts, as `systirctl policy show --html` begins.
fn page(language: &str, bundle: &str, floor: Option<&str>) -> String {
    let floor =
        floor.map(|hash| format!("<meta name=\"systir-floor\" content=\"{hash}\">\n")).unwrap_or_default();
    format!(
        "<!doctype html>\n<html lang=\"{language}\">\n<head>\n<meta name=\"systir-bundle\" content=\"{bundle}\">\n{floor}</head>\n"
    )
}

fn hash(node: &Node, id: &DocumentId) -> String {
    node.parts.documents.newest(id).unwrap().hash().to_string()
}

async fn asked(node: &Node, query: &str) -> (u16, String) {
    request(node, &format!("GET /systir/v1/policy/ku.dk{query}"), b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_page_about_the_policy_in_force_is_served_and_no_script_of_it_runs() {
    let cluster = TestCluster::new();
    let node = cluster.node("cph-1", 5).await;
    let (status, answer) = asked(&node, "").await;
    assert_eq!(status, 404);
    assert!(answer.contains("no page about ku.dk's policy in force (version 1, SHA-256 "), "{answer}");

    let (bundle, floor) = (DocumentId::bundle("ku.dk"), DocumentId::floor("nordunet"));
    let (first, floor_hash) = (hash(&node, &bundle), hash(&node, &floor));
    let put = |language: &str, text: &str| cluster.publish(&format!("ku.dk.{language}.html"), text);
    put("en", &page("en", &first, Some(&floor_hash)));
    put("da", &page("da", &first, None));
    let (status, answer) = asked(&node, "").await;
    assert!(status == 200 && answer.contains("<html lang=\"en\">"), "{answer}");
    let policy = "content-security-policy: default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
                  frame-ancestors 'none'; sandbox\r\n";
    assert!(answer.contains(policy) && answer.contains("x-content-type-options: nosniff\r\n"), "{answer}");
    assert!(asked(&node, "?lang=da").await.1.contains("<html lang=\"da\">"));

    // Of another floor, or of a bundle that is not in force any more.
    put("en", &page("en", &first, Some(&first)));
    assert!(
        asked(&node, "?lang=en").await.1.contains("<html lang=\"da\">"),
        "the one that is about the texts in force"
    );
    let _ = node.parts.documents.take(&cluster.documents.bundle(2, |_| {}).unwrap()).unwrap();
    let (status, answer) = asked(&node, "").await;
    assert!(status == 404 && answer.contains("so it is not shown"), "{answer}");
    assert!(answer.contains("(version 2, SHA-256 ") && !answer.contains("<html"), "{answer}");
    put("en", &page("en", &hash(&node, &bundle), Some(&floor_hash)));
    assert_eq!(asked(&node, "").await.0, 200);

    // No name leads out of the folder, and only to institutions that approve this gateway.
    for other in ["au.dk", "..%2F..%2Fetc%2Fpasswd", "ku.dk%2F..%2Fku.dk"] {
        let (status, answer) = request(&node, &format!("GET /systir/v1/policy/{other}"), b"").await;
        assert!(status == 403 || status == 404, "{other}: {answer}");
    }
    node.stop().await;
    let unapproved = cluster.node("aws-sto-1", 5).await;
    assert_eq!(asked(&unapproved, "").await.0, 403);
    unapproved.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_too_long_is_not_served() {
    let cluster = TestCluster::new();
    let node = cluster.node("cph-1", 5).await;
    let begin = page("en", &hash(&node, &DocumentId::bundle("ku.dk")), None);
    cluster.publish("ku.dk.en.html", &format!("{begin}{}", " ".repeat(2 << 20)));
    assert_eq!(asked(&node, "").await.0, 404);
    cluster.publish("ku.dk.en.html", &begin);
    assert_eq!(asked(&node, "").await.0, 200);
    node.stop().await;
}
