//! The page about an institution's policy, for participants: `systirctl policy show --html` makes it, and the operator puts it
//! beside the signed documents. It is served only while the texts that it is about are in force. This node proves nothing itself.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use systir_admission::Admission;
use systir_documents::{DocumentHash, DocumentId};
use tokio::sync::Semaphore;

use crate::api::Failure;
use crate::documents::store::DocumentStore;

/// Longest page, bytes.
const MAX_PAGE_BYTES: u64 = 2 << 20;
/// The languages of pages, the first one by default.
const LANGUAGES: [&str; 2] = ["en", "da"];
/// The page loads nothing and runs nothing; its style is part of it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; sandbox";

/// What the route needs.
pub(crate) struct PolicyPages {
    pub(crate) admission: Arc<Admission>,
    pub(crate) store: Arc<DocumentStore>,
    /// The folder of the signed documents.
    pub(crate) folder: PathBuf,
    /// The operator of this node.
    pub(crate) operator: String,
    pub(crate) metrics: Arc<PolicyPageMetrics>,
    pub(crate) served: ServedPages,
}

/// Anyone may ask for a page, and read it slowly: all answers share one copy of each.
#[derive(Debug)]
pub(crate) struct ServedPages {
    /// How many requests read files at the same time.
    reading: Semaphore,
    /// By institution and language.
    last: Mutex<HashMap<(String, &'static str), Bytes>>,
}

impl Default for ServedPages {
    fn default() -> Self {
        Self { reading: Semaphore::new(4), last: Mutex::default() }
    }
}

impl ServedPages {
    fn share(&self, institution: &str, language: &'static str, page: String) -> Bytes {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (institution.to_owned(), language);
        if let Some(known) = last.get(&key).filter(|known| *known == page.as_bytes()) {
            return known.clone();
        }
        let page = Bytes::from(page);
        last.insert(key, page.clone());
        page
    }
}

/// How requests for pages ended.
#[derive(Debug, Default)]
pub(crate) struct PolicyPageMetrics {
    answers: Family<PageLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PageLabels {
    answer: &'static str,
}

impl PolicyPageMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help =
            "Requests for the page about a policy: served, missing, or of another text than the one in force";
        registry.register("policy_pages", help, self.answers.clone());
    }

    fn count(&self, answer: &'static str) {
        self.answers.get_or_create(&PageLabels { answer }).inc();
    }
}

/// `/systir/v1/policy/{institution}`. Whoever may open the meeting page may read it.
pub(crate) fn router(pages: PolicyPages) -> Router {
    Router::new().route("/systir/v1/policy/{institution}", get(page)).with_state(Arc::new(pages))
}

#[derive(Deserialize)]
struct Wanted {
    lang: Option<String>,
}

async fn page(
    State(pages): State<Arc<PolicyPages>>,
    UrlPath(institution): UrlPath<String>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    pages.admission.may_serve(&institution)?;
    let missing = |answer, sentence: String| {
        pages.metrics.count(answer);
        Failure::Status(StatusCode::NOT_FOUND, sentence)
    };
    // A name of an accepted bundle: it leads out of no folder.
    let Some(bundle) = pages.store.newest(&DocumentId::bundle(&institution)) else {
        return Err(missing("missing", "this gateway has no policy of that institution".to_owned()));
    };
    let languages = in_order(wanted.lang.as_deref(), &headers);
    let files =
        languages.map(|language| (language, pages.folder.join(format!("{institution}.{language}.html"))));
    let floor = pages.store.newest(&DocumentId::floor(&pages.operator));
    let (is_there, in_force) = {
        let _reading = pages.served.reading.acquire().await;
        let read = move || files.map(|(language, file)| Some((language, read(&file)?)));
        let read = tokio::task::spawn_blocking(read).await;
        let found: Vec<_> = read.into_iter().flatten().flatten().collect();
        let (is_there, floor) = (!found.is_empty(), floor.map(|floor| floor.hash()));
        let in_force = found.into_iter().find(|(_, page)| is_about(page, bundle.hash(), floor));
        let share = |(language, page)| pages.served.share(&institution, language, page);
        (is_there, in_force.map(share))
    };
    let Some(page) = in_force else {
        let what = format!(
            "{institution}'s policy in force (version {}, SHA-256 {})",
            bundle.version(),
            bundle.hash()
        );
        let advice = "its operator makes one with systirctl policy show --html";
        return Err(if is_there {
            missing(
                "other-text",
                format!("The page on this gateway is not about {what}, so it is not shown; {advice}."),
            )
        } else {
            missing("missing", format!("This gateway has no page about {what}; {advice}."))
        });
    };
    pages.metrics.count("served");
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    Ok((headers, page).into_response())
}

/// The wanted language first: the one that the request names, or that the browser prefers.
fn in_order(named: Option<&str>, headers: &HeaderMap) -> [&'static str; 2] {
    let preferred = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let wanted = named.or(preferred).unwrap_or_default();
    let [first, second] = LANGUAGES;
    if wanted.starts_with(second) { [second, first] } else { [first, second] }
}

fn read(path: &Path) -> Option<String> {
    let mut page = String::new();
    let length = File::open(path).ok()?.take(MAX_PAGE_BYTES + 1).read_to_string(&mut page).ok()?;
    (length as u64 <= MAX_PAGE_BYTES).then_some(page)
}

/// Is the page about these texts? One that names no floor says what the bundle permits, whatever the floor forbids.
fn is_about(page: &str, bundle: DocumentHash, floor: Option<DocumentHash>) -> bool {
    let stated = |name: &str| {
        let (_, rest) = page.split_once(&format!("<meta name=\"systir-{name}\" content=\""))?;
        rest.split_once('"').map(|(hash, _)| hash.to_owned())
    };
    stated("bundle").is_some_and(|stated| stated == bundle.to_string())
        && stated("floor").is_none_or(|stated| floor.is_some_and(|floor| stated == floor.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_the_same_page_share_its_bytes_and_a_changed_page_replaces_it() {
        let served = ServedPages::default();
        let share = |text: &str| served.share("ku.dk", "en", text.to_owned());
        let (first, second) = (share("one"), share("one"));
        assert_eq!(first.as_ptr(), second.as_ptr());
        assert_eq!(share("two"), "two");
        assert_eq!((first.as_ref(), served.last.lock().unwrap().len()), (b"one".as_slice(), 1));
    }
}
